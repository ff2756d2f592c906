"""Files that survive a power cut: written beside, fsynced, renamed, and the folder fsynced."""

import errno
import os
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medlike.errors import ArchiveError, ArchiveFull

PARTIAL = ".partial"


def write(path: Path, data: bytes, mode: int = 0o644, sync_folder: bool = True) -> None:
    """Write a whole file: after the return it is there entirely, before it there is the old one or none.

    With `sync_folder` false the caller must `sync_folder(path.parent)` before it relies on the name.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    with disk_errors(path):
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if sync_folder:
            sync_folders([path.parent])


def sync_folders(folders: Iterable[Path]) -> None:
    """fsync folders, so that the names in them survive."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and its parents where they are missing, durably."""
    missing = []
    at = path
    with disk_errors(path):
        while not at.exists():
            missing.append(at)
            at = at.parent
        for folder in reversed(missing):
            folder.mkdir(mode=mode, exist_ok=True)
            sync_folders([folder.parent])


def clear(folder: Path, keep: Collection[str] = ()) -> None:
    """Delete what is in a folder, but for the files named in `keep`."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in keep:
            path.unlink()


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, none where the folder is missing. Files that vanish meanwhile are fine."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from files(Path(entry.path))
        else:
            yield Path(entry.path)


def size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where another user may not look into it."""
    total = 0
    try:
        for path in files(folder):
            with suppress(FileNotFoundError):
                total += path.stat().st_size
    except PermissionError:
        pass
    return total


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors on writing into ours, with the next action."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ArchiveFull(f"the disk that holds {path} is full: free space, then run it again") from error
        raise ArchiveError(
            f"{path} cannot be written ({error.strerror or error}): check permissions"
        ) from error
