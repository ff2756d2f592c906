"""medlike restore: make an archive of a backup."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.options import ArchiveFolder, Passphrase, archive_folder, passphrase

EXAMPLES = """[b]Example[/b]

medlike restore /mnt/backup/monday --archive restored/
"""


def restore(
    source: Annotated[Path, typer.Argument(help="The folder that holds the backup.")],
    archive: ArchiveFolder = None,
    passphrase_file: Passphrase = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="The original archive's private/key, for a backup that was made without it."
        ),
    ] = None,
) -> None:
    """Make an archive of a backup, in a new folder. The index is built again.

    Without the key of its ids the archive is searched as before and takes no new images.
    """
    from medlike import Archive
    from medlike.cli.screen import out, say

    folder = archive_folder(archive)
    with Archive.restore(source, folder, passphrase=passphrase(passphrase_file), key=key) as opened:
        images = opened.info()["images"]
    out().print(f"[b]{images}[/b] images restored")
    say(f"archive: {folder}")
