"""medlike backup: save an archive while it is in use."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.options import ArchivePlace, Passphrase, Report, ReportFormat, opened, passphrase

EXAMPLES = """[b]Examples[/b]

medlike backup /mnt/backup/monday --archive archive/

medlike backup /mnt/backup/monday --archive archive/ --links --passphrase-file secret.txt
"""


def backup(
    target: Annotated[Path, typer.Argument(help="New folder for the backup; with a service, on its machine.")],
    archive: ArchivePlace = None,
    links: Annotated[
        bool,
        typer.Option(
            "--links", help="Include the link table (paths, UIDs, true dates): it says whose images these are."
        ),
    ] = False,
    passphrase_file: Passphrase = None,
    with_id_key: Annotated[
        bool,
        typer.Option(
            "--with-id-key",
            help="Without a passphrase: include the id key, unencrypted. Its holder can test whether an image with a "
            "known UID is in the archive. Without it a restored archive cannot add images.",
        ),
    ] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Copy an archive to a new folder while it is in use.

    With a passphrase the backup is one encrypted file. Without one it is not encrypted and leaves out the id key,
    unless you give --with-id-key. The link table (paths, UIDs, true dates) is only included with --links.
    """
    from medlike.cli.screen import note, out, print_json

    secret = passphrase(passphrase_file, again=True)
    with opened(archive) as saved:
        report = saved.backup(target, links=links, passphrase=secret, with_id_key=with_id_key)
    if format is Report.json:
        print_json(
            {
                **asdict(report),
                "encrypted": secret is not None,
                "id_key": secret is not None or with_id_key,
                "path": str(target),
            }
        )
    else:
        out().print(f"[b]{report.images}[/b] images as of generation {report.generation} saved")
        if secret is None and not with_id_key:
            note("medlike: the key of the ids is not in it; keep a copy of private/key apart, to add images later")
