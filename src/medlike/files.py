"""Files that survive a power cut: written beside, fsynced, renamed, and the folder fsynced."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from medlike.errors import ArchiveError, ArchiveFull

PARTIAL = ".partial"
PRIVATE = 0o600  # readable and writable for the owner alone
_NOT_PLAIN = "{} is {}, which an archive never holds: delete it, or restore the archive from a backup"


def write(path: Path, data: bytes | BinaryIO, mode: int | None = None, sync_folder: bool = True) -> None:
    """Write a whole file: after the return it is there entirely, before it there is the old one or none.

    With `sync_folder` false the caller must `sync_folders([path.parent])` before it relies on the name.

    Args:
        path: The file.
        data: Its whole content, or a file that is read from its start and copied piece by piece.
        mode: Permissions, which the umask narrows; None for those of the folder, as `create` gives them.
        sync_folder: If true, also make the name durable.
    """
    with disk_errors(path), drafted(path, mode, sync_folder=sync_folder) as draft:
        if isinstance(data, bytes):
            draft.write_bytes(data)
        else:
            data.seek(0)
            with draft.open("wb") as file:
                shutil.copyfileobj(data, file, 1 << 20)


def write_text(path: Path, text: str, mode: int = 0o666) -> Path:
    """Write a whole text file in UTF-8, and return its path.

    Args:
        path: The file; a link there is replaced, not followed.
        text: Its content, with the ends of lines as they are.
        mode: permissions, which the umask narrows; PRIVATE for a file that its owner alone may read.
    """
    with drafted(path, mode) as draft:
        draft.write_text(text, encoding="utf-8", newline="")
    return path


@contextmanager
def drafted(path: Path, mode: int | None = 0o666, alone: bool = False, sync_folder: bool = True) -> Iterator[Path]:
    """Yield an empty draft beside `path`, which takes its place when the block ends; on an error the draft goes.

    The draft is fsynced before the rename, its folder after it.

    Args:
        path: The file to write or to replace.
        mode: permissions, which the umask narrows; None: those of the folder, as `create` gives them.
        alone: No other process writes this file meanwhile: its draft has a fixed name, so that the next attempt
            overwrites what a killed process left.
        sync_folder: Make the name durable too; else the caller must do it before it relies on the name.

    Raises:
        OSError: The file cannot be written; `disk_errors` turns it into an error with the next action.
    """
    draft = path.with_name(f".{path.name}{'' if alone else '.' + secrets.token_hex(4)}{PARTIAL}")
    try:
        os.close(create(draft, mode, os.O_TRUNC | os.O_NOFOLLOW if alone else os.O_EXCL))
        yield draft
        sync_files([draft])
        move(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    if sync_folder:
        sync_folders([path.parent])


@contextmanager
def drafted_folder(path: Path, mode: int = 0o777, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which takes its place, durably, when the block ends; on an error it goes.

    Args:
        path: The folder to make.
        mode: permissions, which the umask narrows.
        replace: A folder that is there already makes way. Otherwise it stays and the draft goes: another process
            has made the same one meanwhile.

    Raises:
        OSError: The folder cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    former = draft.with_name(draft.name + ".old")
    draft.mkdir(mode)
    try:
        yield draft
        inside = [entry for entry in draft.rglob("*") if not entry.is_symlink()]
        sync_files(entry for entry in inside if entry.is_file())
        sync_folders([*(entry for entry in inside if entry.is_dir()), draft])
        if replace and path.exists():
            move(path, former)
        try:
            move(draft, path)
        except OSError:
            if not path.is_dir():
                raise
        sync_folders([path.parent])
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def move(path: Path, target: Path) -> None:
    """Rename a file or folder; the name is durable once its folder is synced."""
    path.rename(target)


def create(path: Path, mode: int | None = None, flags: int = os.O_EXCL) -> int:
    """Create a file open to read and write, and return its descriptor.

    Args:
        path: The file.
        mode: Permissions, which the umask narrows. None: whoever may read the folder may read the file, whatever
            the umask; only the owner may write it.
        flags: of `os.open`, besides those to create it. 0: a file that is there is opened as it is.
    """
    if mode is not None:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, mode)
    mode = 0o600 | inherited(path.parent) & 0o044
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, mode)
    # A file that another user made, and a file system without permissions, refuse this: the mode is then theirs.
    with suppress(PermissionError):
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o777 != mode:
            os.fchmod(descriptor, mode)
    return descriptor


def inherited(folder: Path) -> int:
    """Return the permissions that a new folder in `folder` has: others may read where they may read `folder`."""
    return 0o700 | folder.stat().st_mode & 0o055


def read(path: Path, most: int | None = None) -> bytes:
    """Return the content of a regular file that lies at `path` itself; no link is followed, no pipe waited for.

    Args:
        path: The file.
        most: The most bytes that it may have; None for any number.

    Raises:
        FileNotFoundError: There is no file.
        ArchiveError: It is a link, a folder, a pipe or a device, or larger than `most`.
        OSError: It cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArchiveError(_NOT_PLAIN.format(path, "a symbolic link")) from None
        raise
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise ArchiveError(_NOT_PLAIN.format(path, "no regular file"))
    with os.fdopen(descriptor, "rb") as file:
        if most is not None and facts.st_size > most:
            raise ArchiveError(f"{path} has {facts.st_size} bytes, at most {most} are expected: delete it")
        return file.read()


def is_regular(path: Path) -> bool:
    """Return whether a regular file lies at `path` itself, rather than a link, a folder, a pipe or nothing."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def require_plain(path: Path, folder: bool = False) -> None:
    """Raise ArchiveError where something other than a regular file (or a folder) lies at `path`; nothing is fine."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, PermissionError):
        return  # where nobody may look, nothing is followed either
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{path} cannot be looked at ({error}): check permissions") from error
    if stat.S_ISLNK(mode):
        raise ArchiveError(_NOT_PLAIN.format(path, "a symbolic link"))
    if not (stat.S_ISDIR(mode) if folder else stat.S_ISREG(mode)):
        raise ArchiveError(_NOT_PLAIN.format(path, "no folder" if folder else "no regular file"))


def sync_files(files: Iterable[Path]) -> None:
    """fsync the content of files, whoever wrote it."""
    _sync(files, os.O_RDONLY)


def sync_folders(folders: Iterable[Path]) -> None:
    """fsync folders, so that the names in them survive."""
    _sync(folders, os.O_RDONLY | os.O_DIRECTORY)


def _sync(paths: Iterable[Path], flags: int) -> None:
    for path in paths:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(path: Path, mode: int | None = None) -> None:
    """Make a folder and its parents where they are missing, durably.

    Args:
        path: The folder.
        mode: Permissions of each, which the umask narrows; None: those of the folder that each is made in.
    """
    missing = []
    at = path
    with disk_errors(path):
        while not at.exists():
            missing.append(at)
            at = at.parent
        for folder in reversed(missing):
            folder.mkdir(mode=0o700 if mode is None else mode, exist_ok=True)
            if mode is None:
                with suppress(PermissionError):
                    folder.chmod(inherited(folder.parent) | folder.stat().st_mode & stat.S_ISGID)
            sync_folders([folder.parent])


def make_own_folder(path: Path, shared: bool = False) -> None:
    """Make a folder that its owner alone may enter; one that is there is narrowed to that.

    Args:
        path: The folder.
        shared: The umask decides who else may enter; a folder that is there stays as it is.

    Raises:
        ArchiveError: the folder is another user's.
    """
    make_folder(path.parent, 0o755)
    make_folder(path, 0o755 if shared else 0o700)
    if not shared and stat.S_IMODE(path.stat().st_mode) & 0o077:
        try:
            path.chmod(0o700)
        except PermissionError as error:
            raise ArchiveError(
                f"{path} is another user's folder and cannot be closed to others: give a folder of your own, or share "
                "the archive (`medlike index --shared`)"
            ) from error


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
        missing = error.errno == errno.ENOENT
        action = f"make the folder {path.parent} first" if missing and not path.parent.exists() else "check permissions"
        raise ArchiveError(f"{path} cannot be written ({error.strerror or error}): {action}") from error
