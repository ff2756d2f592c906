"""medlike remove: remove images from an archive."""

from dataclasses import asdict
from typing import Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.options import ArchiveFolder, Report, ReportFormat, archive_folder, full_id

EXAMPLES = """[b]Examples[/b]

medlike remove 1f0c9a... --archive archive/

medlike remove 1f0c9a... --archive archive/ --erase --yes
"""


def remove(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids of images, or at least the first 4 digits of each.")
    ],
    archive: ArchiveFolder = None,
    erase: Annotated[
        bool, typer.Option("--erase", help="Leave no trace in the archive: rows, pixels, texts and links.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before erasing.")] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Remove images from an archive. Without --erase, repeated searches of earlier generations still see them.

    You cannot undo --erase, and it does not reach backups or the original files. Unknown ids are listed; the exit
    code is then 3.
    """
    from medlike import Archive
    from medlike.cli.screen import note, out, print_json

    if erase and not yes:
        typer.confirm(f"Erase {len(ids)} images for good?", abort=True, err=True)
    with Archive.open(archive_folder(archive)) as opened:
        if erase:
            note(f"medlike: erasing needs {opened.room('erase')}")
        report = opened.remove([full_id(opened, id) for id in ids], erase=erase)
    if format is Report.json:
        print_json(asdict(report))
    else:
        done = f"[b]{report.erased}[/b] rows erased" if erase else f"[b]{report.removed}[/b] images removed"
        out().print(f"{done}, generation {report.generation}")
    for id in report.unknown:
        note(f"medlike: no image {id}")
    if report.unknown:
        raise typer.Exit(REFUSED)
