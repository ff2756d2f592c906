"""medlike upgrade: bring an archive to the newest format."""

from dataclasses import asdict
from typing import Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.fit import fitted
from medlike.cli.options import ArchiveFolder, Report, ReportFormat, Wait, archive_folder

EXAMPLES = """[b]Examples[/b]

medlike upgrade --archive archive/

medlike upgrade --archive archive/ --encode-again
"""


def upgrade(
    archive: ArchiveFolder = None,
    encode_again: Annotated[
        bool,
        typer.Option(
            "--encode-again",
            help="Also encode every image with the default bundle and switch to it. This needs pixels or previews.",
        ),
    ] = False,
    wait: Wait = 0.0,
    format: ReportFormat = Report.table,
) -> None:
    """Bring an archive to the newest format, which an earlier medlike cannot open. Receipts stay as they are.

    Codes are then fitted to the archive (`medlike fit`). Without --encode-again no pixels are needed.
    With it, images whose pixels are gone are listed; the archive is then not switched, and the exit code is 3.
    """
    from medlike import Archive
    from medlike.cli.screen import counted, note, print_json, progress, say

    folder = archive_folder(archive)
    with Archive.open(folder) as opened, progress() as display:
        task = display.add_task("Upgrading rows", total=None)
        if opened.unchecked():
            note(f"medlike: upgrading needs {opened.room('upgrade')}")
        report = opened.upgrade(
            lambda so_far: display.update(task, completed=so_far.done), wait, encode_again=encode_again
        )
    if format is Report.json:
        print_json(asdict(report))
    elif not report.changed:
        say(f"{folder} is of format {report.format} already")
    else:
        if report.former != report.format:
            say(f"{folder} is of format {report.format} now; it was of format {report.former}")
        for table, rows in report.sealed.items():
            say(f"digests added to {counted(rows, 'row')} of {table}")
        if report.text:
            say(f"images and texts encoded under {report.text}, to be found by meaning")
        if report.encoded:
            say(f"{counted(report.encoded, 'image')} encoded again")
        if report.sentences:
            say(f"fields of {counted(report.sentences, 'image')} encoded, to be found by meaning")
        if report.received:
            say(f"{counted(report.received, 'received file')} moved to private/spool")
        if report.sealed:
            say("What changes in these rows from now on is noticed; damage from before cannot be told.")
        if report.fit is not None:
            say(fitted(report.fit))
    if encode_again and format is not Report.json and not report.encoded and not report.lost:
        say("no image was encoded again: the archive's bundle gives the codes of the default one")
    for id in report.lost:
        note(f"{id}: neither pixels nor preview are left")
    if report.lost:
        note(f"medlike: the archive was not switched: {counted(len(report.lost), 'image')} cannot be encoded again")
        raise typer.Exit(REFUSED)
