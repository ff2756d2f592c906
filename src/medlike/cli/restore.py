"""medlike restore: restore an archive from a backup."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.options import ArchiveFolder, Passphrase, archive_folder, passphrase

EXAMPLES = """[b]Example[/b]

medlike restore /mnt/backup/monday --archive restored/
"""


def restore(
    source: Annotated[Path, typer.Argument(help="Folder of the backup.")],
    archive: ArchiveFolder = None,
    passphrase_file: Passphrase = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="The id key (private/key of the original archive), if the backup does not include it.",
        ),
    ] = None,
) -> None:
    """Restore a backup to a new folder and rebuild its index.

    Without its id key the archive can be searched as before, but cannot add images.
    """
    from medlike import Archive
    from medlike.cli.screen import out, say

    folder = archive_folder(archive)
    with Archive.restore(source, folder, passphrase=passphrase(passphrase_file), key=key) as opened:
        images = opened.info()["images"]
    out().print(f"[b]{images}[/b] images restored")
    say(f"archive: {folder}")
