"""medlike reindex: encode an archive again, under another bundle or the same."""

from typing import Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.options import ArchiveFolder, Report, ReportFormat, archive_folder

EXAMPLES = """[b]Examples[/b]

medlike reindex --archive archive/

medlike reindex --archive archive/ --bundle medlike-itq-64
"""


def reindex(
    archive: ArchiveFolder = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="Encode every image again under this bundle, then switch to it."),
    ] = None,
    format: ReportFormat = Report.table,
) -> None:
    """Build the index again from the store; with --bundle, encode every image again first.

    Searches go on under the old bundle until the switch. Images whose pixels are gone are counted; the
    exit code is then 3.
    """
    from medlike import Archive
    from medlike.cli.screen import out, print_json, progress

    with Archive.open(archive_folder(archive)) as opened, progress() as display:
        task = display.add_task("Encoding", total=opened.info()["images"])
        report = opened.reindex(
            bundle, progress=lambda so_far: display.update(task, completed=so_far.encoded + len(so_far.lost))
        )
    if format is Report.json:
        print_json(
            {
                "encoded": report.encoded,
                "from_preview": report.from_preview,
                "lost": report.lost,
                "switched": report.switched,
                "generation": report.generation,
            }
        )
    elif bundle is None:
        out().print("index built again")
    else:
        words = [f"[b]{report.encoded}[/b] images encoded"]
        if report.from_preview:
            words.append(f"[b]{report.from_preview}[/b] of them from their previews")
        if report.lost:
            words.append(f"[b]{len(report.lost)}[/b] lost: neither pixels nor preview are left")
        out().print(", ".join(words))
    if report.lost:
        raise typer.Exit(REFUSED)
