"""Pixels of an archive: content-addressed and lossless, free of identifiers; and previews of 512 pixels.

A pixel file holds the array and nothing else (`imaging.encode_pixels`) and is named by the digest of the
decoded pixels (`Image.digest`). Previews are JPEG of the rendered picture, named by the sha256 of the file.
"""

import hashlib
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from medlike import files as durable
from medlike.errors import ArchiveError, ImageError
from medlike.types import Array

if TYPE_CHECKING:
    from medlike.imaging import Image

_PREVIEW_QUALITY = 90
_DIGEST = re.compile(r"[0-9a-f]{64}")


def encode_preview(image: "Image") -> bytes:
    """JPEG of an image as it is shown, its longer side at most 512 pixels."""
    from PIL import Image as Pillow

    from medlike.imaging import preview

    file = io.BytesIO()
    Pillow.fromarray(preview(image)).save(file, "JPEG", quality=_PREVIEW_QUALITY)
    return file.getvalue()


def preview_name(data: bytes) -> str:
    """The name of a preview: the sha256 of its file, hex."""
    return hashlib.sha256(data).hexdigest()


class Pixels:
    """The pixel files of an archive. Writing: `write*` many, then `sync` once, then commit their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsynced: set[Path] = set()

    def path(self, digest: str) -> Path:
        """Return where the pixels of a digest are, or would be. Raises ArchiveError where it is no digest."""
        _require_digest(digest)
        return self.folder / digest[:2] / f"{digest}.pixels"

    def preview_path(self, sha256: str) -> Path:
        """Return where a preview is, or would be. Raises ArchiveError where it is no digest."""
        _require_digest(sha256)
        return self.folder / "previews" / sha256[:2] / f"{sha256}.jpg"

    def read(self, digest: str) -> Array | None:
        """The pixels of a digest, None where they are not kept. Raises ArchiveError for a damaged file."""
        from medlike.imaging import Image, decode_pixels

        try:
            array = decode_pixels(durable.read(self.path(digest)))
        except FileNotFoundError:
            return None
        except (OSError, ImageError) as error:
            raise ArchiveError(f"{self.path(digest)}: {error}: restore it from a backup") from error
        if Image(pixels=array).digest != digest:
            raise ArchiveError(f"{self.path(digest)} is damaged: restore it from a backup")
        return array

    def read_preview(self, sha256: str) -> bytes | None:
        """Return a preview's JPEG, None where it is not kept. Raises ArchiveError for a damaged file."""
        try:
            data = durable.read(self.preview_path(sha256))
        except FileNotFoundError:
            return None
        if preview_name(data) != sha256:
            raise ArchiveError(f"{self.preview_path(sha256)} is damaged: restore it from a backup")
        return data

    def write(self, digest: str, data: bytes) -> None:
        """Keep pixels encoded by `encode_pixels`; nothing happens where they are kept already."""
        self._write(self.path(digest), data)

    def write_preview(self, data: bytes) -> None:
        """Keep a preview under its `preview_name`."""
        self._write(self.preview_path(preview_name(data)), data)

    def sync(self) -> None:
        """Make the names written since the last call durable."""
        folders, self._unsynced = self._unsynced, set()
        durable.sync_folders(sorted(folders))

    def delete(self, paths: Iterable[Path]) -> None:
        """Delete files, durably."""
        folders = set()
        for path in paths:
            path.unlink(missing_ok=True)
            folders.add(path.parent)
        durable.sync_folders(sorted(folder for folder in folders if folder.is_dir()))

    def leftovers(self, digests: Iterable[str], previews: Iterable[str]) -> list[Path]:
        """Return the files of other pixels and previews than these, and half-written ones."""
        known = {f"{digest}.pixels" for digest in digests} | {f"{sha256}.jpg" for sha256 in previews}
        return [path for path in durable.files(self.folder) if path.name not in known]

    def _write(self, path: Path, data: bytes) -> None:
        if not path.exists():
            durable.require_plain(path.parent, folder=True)
            durable.make_folder(path.parent)
            durable.write(path, data, sync_folder=False)
        # Also where it was there: an earlier writer may have died before it synced the name.
        self._unsynced.add(path.parent)


def _require_digest(text: str) -> None:
    # It comes from the database and becomes a path: "../.." must not.
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ArchiveError(f"{str(text)[:80]!r} in the database is no SHA-256: restore the archive from a backup")
