"""medlike backup: save an archive while it is in use."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.options import ArchiveFolder, Passphrase, Report, ReportFormat, archive_folder, passphrase

EXAMPLES = """[b]Examples[/b]

medlike backup /mnt/backup/monday --archive archive/

medlike backup /mnt/backup/monday --archive archive/ --links --passphrase-file secret.txt
"""


def backup(
    target: Annotated[Path, typer.Argument(help="A new folder for the backup.")],
    archive: ArchiveFolder = None,
    links: Annotated[
        bool, typer.Option("--links", help="Save the link table too: it says whose images these are.")
    ] = False,
    passphrase_file: Passphrase = None,
    format: ReportFormat = Report.table,
) -> None:
    """Save an archive into a folder; it may be searched and written to meanwhile.

    The key of the public ids is always in it. The link table (paths, UIDs, true dates) is left out unless
    asked for.
    """
    from medlike import Archive
    from medlike.cli.screen import out, print_json

    secret = passphrase(passphrase_file)
    with Archive.open(archive_folder(archive)) as opened:
        report = opened.backup(target, links=links, passphrase=secret)
    if format is Report.json:
        print_json(
            {
                "images": report.images,
                "files": report.files,
                "generation": report.generation,
                "links": report.links,
                "path": str(target),
            }
        )
    else:
        out().print(f"[b]{report.images}[/b] images as of generation {report.generation} saved")
