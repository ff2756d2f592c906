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
) -> None:
    """Make an archive of a backup, in a new folder. The index is built again."""
    from medlike import Archive
    from medlike.cli.screen import out

    folder = archive_folder(archive)
    with Archive.restore(source, folder, passphrase=passphrase(passphrase_file)) as opened:
        images = opened.info()["images"]
    out().print(f"[b]{images}[/b] images restored")
    out().print(f"archive: {folder}", markup=False, soft_wrap=True)
