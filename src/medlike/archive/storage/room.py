"""How much room on the disk the writes need that rebuild whole files, said and checked before they begin."""

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from medlike.archive.storage.folder import BundleFacts, Folder
from medlike.errors import ArchiveFull

_SLACK = 1 << 20  # bytes for what is small
_CELLS = 14 * 14
_ROW = 512  # bytes of an encoding besides its arrays, and of its entries in the index


@dataclass(frozen=True)
class Room:
    """Room that a write needs at most, in bytes.

    Attributes:
        write: What it does, as a message begins.
        folder: The archive.
        archive: Bytes on the archive's disk.
        temporary: Bytes in the folder where SQLite keeps temporary files.
    """

    write: str
    folder: Path
    archive: int
    temporary: int = 0

    def __str__(self) -> str:
        return " and ".join(
            f"up to {_shown(needed)} on the disk of {place} ({_shown(shutil.disk_usage(place).free)} free)"
            for place, needed in self._places().items()
        )

    def require(self) -> None:
        """Raise ArchiveFull, with the figures, where a disk has less room."""
        for place, needed in self._places().items():
            free = shutil.disk_usage(place).free
            if free < needed:
                raise ArchiveFull(
                    f"{self.write} needs up to {_shown(needed)} on the disk of {place}, and {_shown(free)} are free: "
                    "free space, then run it again (nothing was changed)"
                )

    def _places(self) -> dict[Path, int]:
        """Bytes needed by folder; folders on one disk are counted together."""
        scratch = _scratch()
        if not self.temporary:
            return {self.folder: self.archive}
        if scratch.stat().st_dev == self.folder.stat().st_dev:
            return {self.folder: self.archive + self.temporary}
        return {self.folder: self.archive, scratch: self.temporary}


def to_compact(folder: Folder) -> Room:
    """Return what `compact` needs: the store is written anew, by a temporary file and its log, then the index."""
    parts = folder.bytes()
    return Room("compacting", folder.path, 2 * parts["store"] + parts["index"] + _SLACK, parts["store"])


def to_erase(folder: Folder) -> Room:
    """Return what an erasure needs: as for `compact`, and the link table is written anew as well."""
    parts = folder.bytes()
    links = sum(path.stat().st_size for path in folder.private.glob("links.sqlite*"))
    largest = max(parts["store"], links)
    return Room("erasing", folder.path, 2 * parts["store"] + links + parts["index"] + _SLACK, largest)


def to_reindex(folder: Folder, images: int, bundle: BundleFacts | None = None) -> Room:
    """Return what `reindex` needs: new encodings in store and log where there is a bundle, and an index of all."""
    facts = bundle or folder.bundle
    local = _CELLS * ((facts.local_bits or 0) + 1) // 8 if facts.local_bits else 0
    encodings = images * (facts.bits // 8 + facts.content_dim + local + _ROW)
    return Room("reindexing", folder.path, (1 if bundle is None else 3) * encodings + _SLACK)


def to_fit(folder: Folder, images: int) -> Room:
    """Return what `fit` needs: an index of all images under the fit."""
    return replace(to_reindex(folder, images), write="fitting")


def _scratch() -> Path:
    """The folder where SQLite keeps temporary files."""
    for name in (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp"):
        if name and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    return Path(tempfile.gettempdir())


def _shown(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
