"""Backup while the archive is in use, and restore.

A plain backup is a folder that is itself an archive: the store as of one generation, the pixels and previews it
refers to, the spool's acknowledged files, and, only on request, the link table and the key of the ids. The index is
left out: it is rebuilt. Under a passphrase all of it, key included, is one encrypted file, a tar stream inside.

What is restored may come from anybody: only regular files with names that an archive gives are taken.
"""

import fcntl
import io
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from medlike import files as durable
from medlike.archive.storage import encryption, sealed_key
from medlike.archive.storage.branches import begin_branch
from medlike.archive.storage.creation import UNFINISHED
from medlike.archive.storage.database import Database, address, storage_errors
from medlike.archive.storage.folder import FILE, LARGEST, Folder, spool_of
from medlike.archive.storage.identity import KEY_FILE, LINKS_FILE, NO_KEY, Identity, Links
from medlike.archive.storage.pixels import Pixels, preview_name
from medlike.archive.storage.spool import Spool, move_spool
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError, ArchiveLocked, ImageError, InputError

CONTAINER = "backup.encrypted"
_TRIES = 5
_TICKET = r"\d{20}-[0-9a-f]{16}\.[a-z0-9]{1,8}"
_TAKEN = re.compile(
    rf"(?:private/)?spool/(?:refused/)?{_TICKET}|pixels/[0-9a-f]{{2}}/[0-9a-f]{{64}}\.pixels"
    r"|pixels/previews/[0-9a-f]{2}/[0-9a-f]{64}\.jpg"
)
_SEALED = (FILE, "store.sqlite", f"private/{KEY_FILE}", f"private/{LINKS_FILE}")


@dataclass
class BackupReport:
    """images: live ones. files: pixel and preview files. generation: the one that was saved."""

    images: int = 0
    files: int = 0
    generation: int = 0
    links: bool = False


class _Plain:
    """A backup as a folder of files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, data: bytes) -> None:
        """Write a small file."""
        path = self.folder / name
        owned = name.startswith(("private/", "spool/"))
        durable.make_folder(path.parent, 0o700 if owned else None)
        durable.write(path, data, 0o600 if owned else None)

    def has(self, name: str) -> bool:
        """Return whether an earlier try has written a file that never changes."""
        return (self.folder / name).exists()

    def database(self, name: str, source: Path) -> Path:
        """Copy a database in one state, and return where the copy is."""
        durable.make_folder((self.folder / name).parent, 0o700 if name.startswith("private/") else None)
        _copy_database(source, self.folder / name)
        return self.folder / name


class _Sealed:
    """A backup as a tar stream, to be encrypted. staging: a private folder for the copies of databases."""

    def __init__(self, stream: encryption.Encrypting, staging: Path) -> None:
        self._tar = tarfile.open(fileobj=cast(BinaryIO, stream), mode="w|")  # noqa: SIM115 (closed by `finish`)
        self._staging = staging

    def add(self, name: str, data: bytes) -> None:
        """Write a small file."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def has(self, name: str) -> bool:
        """Return False: each try writes a stream of its own."""
        return False

    def database(self, name: str, source: Path) -> Path:
        """Copy a database in one state, and return where a copy is that can be read."""
        copy = self._staging / Path(name).name
        _copy_database(source, copy)
        info = tarfile.TarInfo(name)
        info.size = copy.stat().st_size
        with copy.open("rb") as file:
            self._tar.addfile(info, file)
        return copy

    def finish(self) -> None:
        """Write the end of the tar stream."""
        self._tar.close()


_Target = _Plain | _Sealed


def backup(
    folder: Folder, target: Path, links: bool = False, passphrase: str | None = None, with_id_key: bool = False
) -> BackupReport:
    """Write a backup into `target`, which must not exist or be empty. Readers and a writer may go on.

    Args:
        folder: The archive.
        target: A new or empty folder outside of the archive.
        links: With the link table, which says whose images these are.
        passphrase: Encrypts the whole backup, with the key of the ids in it.
        with_id_key: Put the key into a backup that is not encrypted. Whoever has it can test whether an image with
            a UID that they know is in the archive, and whose images belong together.

    Raises:
        ArchiveError: The target is not empty or lies in the archive, or a database, pixels or previews are missing or
            damaged.
        ArchiveFull: The disk is full.
        InputError: The passphrase is empty.
    """
    if passphrase == "":
        raise InputError("the passphrase is empty: give one, or leave it out for a backup that is not encrypted")
    with _filled(target, folder.path):
        for attempt in range(_TRIES):
            if passphrase is None:
                report, missing, settled = _save(folder, _Plain(target), links, with_id_key)
            else:
                # The copies of databases wait where only this user reads, never on the backup's own disk.
                with (
                    tempfile.TemporaryDirectory(prefix="medlike-") as staging,
                    encryption.encrypted(target / CONTAINER, passphrase) as stream,
                ):
                    sealed = _Sealed(stream, Path(staging))
                    report, missing, settled = _save(folder, sealed, links, with_id_key=True)
                    sealed.finish()
            if (settled and not missing) or attempt == _TRIES - 1:
                break
            # Else a compaction or a switch of bundles came between: once more.
    if missing:
        raise ArchiveError(
            f"{len(missing)} pixel files are missing, among them {missing[0]}: run `medlike verify`"
        )
    return report


def _save(folder: Folder, out: _Target, links: bool, with_id_key: bool) -> tuple[BackupReport, list[Path], bool]:
    description = durable.read(folder.path / FILE)
    # As it is now: an upgrade may have come between.
    folder = Folder.open(folder.path)
    place = spool_of(folder.format)
    # Received files first: one that is committed meanwhile is then in the store's copy as well or alone.
    for entry in Spool(lambda: folder.spool).entries():
        try:
            sidecar = durable.read(entry.path.with_name(f"{entry.ticket}.json"))
            data = durable.read(entry.path)
        except FileNotFoundError:
            continue  # committed just now
        out.add(f"{place}/{entry.path.name}", data)
        out.add(f"{place}/{entry.ticket}.json", sidecar)
    store = Store(out.database("store.sqlite", folder.store))
    try:
        _require_sound(store, folder.store)
        if links:
            # Links are written before their images: copied later, none is lacking. Those too many go at the restore.
            copy = Database(out.database(f"private/{LINKS_FILE}", folder.private / LINKS_FILE))
            _require_sound(copy, folder.private / LINKS_FILE)
            copy.close()
        missing, files = _copy_pixels(store, Pixels(folder.pixels), out)
        report = BackupReport(store.count(), files, store.generation(), links)
    finally:
        store.close()
    if with_id_key and (folder.private / KEY_FILE).exists():
        out.add(f"private/{KEY_FILE}", durable.read(folder.private / KEY_FILE))
    settled = description == durable.read(folder.path / FILE)
    if settled:
        # Last: without archive.json the folder is not an archive, so that half a backup is never taken for one.
        out.add(FILE, description)
    return report, missing, settled


def restore(source: Path, target: Path, passphrase: str | None = None, key: Path | None = None) -> Folder:
    """Make an archive of a backup in a new folder.

    Args:
        source: The backup's folder.
        target: A new or empty folder.
        passphrase: That of an encrypted backup.
        key: The original archive's private/key, for a backup without it. Without a key the archive is searched as
            before, and takes no new images.

    Raises:
        ArchiveError: There is no backup, it is damaged or holds what no archive does, or passphrase or key is wrong.
    """
    key_bytes = None if key is None else durable.read(key, 1024)
    container = source / CONTAINER
    durable.require_plain(container)
    if container.exists():
        if not passphrase:
            raise ArchiveError(f"the backup in {source} is encrypted: give its passphrase")
        with _filled(target, source):
            description = _unpack_sealed(container, target, passphrase)
            _finish(target, description, key_bytes)
        return Folder.open(target)
    if (source / UNFINISHED).exists() and not (source / FILE).exists():
        raise ArchiveError(f"the backup in {source} was interrupted before its end: run `medlike backup` again")
    if not (source / FILE).exists():
        raise ArchiveError(f"{source} is not a backup (archive.json is missing): give the folder of one")
    original = Folder.open(source)
    sealed = source / "private" / sealed_key.FILE
    if key_bytes is None and os.path.lexists(sealed):
        if passphrase is None:
            raise ArchiveError(f"the id key in {source} is encrypted: give the passphrase of the backup")
        key_bytes = sealed_key.unseal(durable.read(sealed, 4096), passphrase)
    with _filled(target, source, bool(original.shared)):
        _unpack(source, target, with_key=key_bytes is None)
        _finish(target, durable.read(source / FILE), key_bytes)
    return Folder.open(target)


def _unpack(source: Path, target: Path, with_key: bool) -> None:
    """Copy what a plain backup holds. Raises ArchiveError for links, pipes and devices in it."""
    for part in ("spool", "private/spool", "pixels"):
        for path in durable.files(source / part):
            durable.require_plain(path)
            name = path.relative_to(source).as_posix()
            if _TAKEN.fullmatch(name):
                _Plain(target).add(name, durable.read(path))
    _copy_database(source / "store.sqlite", target / "store.sqlite")
    durable.make_folder(target / "private", 0o700)
    if (source / "private" / LINKS_FILE).exists():
        _copy_database(source / "private" / LINKS_FILE, target / "private" / LINKS_FILE)
    if with_key and (source / "private" / KEY_FILE).exists():
        durable.write(target / "private" / KEY_FILE, durable.read(source / "private" / KEY_FILE, 1024), 0o600)


def _unpack_sealed(container: Path, target: Path, passphrase: str) -> bytes:
    """Unpack an encrypted backup, and return its archive.json. Raises ArchiveError for whatever is no part of one."""
    description = b""
    with container.open("rb") as file:
        stream = encryption.Decrypting(file, passphrase)
        try:
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|") as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is None or not (member.name in _SEALED or _TAKEN.fullmatch(member.name)):
                        raise ArchiveError(f"the backup holds {member.name[:80]!r}, which is no part of an archive")
                    if member.name == FILE:
                        description = content.read(LARGEST)
                        continue
                    owned = member.name.startswith(("private/", "spool/"))
                    durable.make_folder((target / member.name).parent, 0o700 if owned else None)
                    with durable.disk_errors(target):
                        descriptor = durable.create(target / member.name, 0o600 if owned else None)
                        with os.fdopen(descriptor, "wb") as copy:
                            shutil.copyfileobj(content, copy, 1 << 20)
                        durable.sync_files([target / member.name])
                durable.sync_folders(sorted({path.parent for path in durable.files(target)}))
        except (tarfile.TarError, EOFError) as error:
            raise ArchiveError(f"the backup is damaged ({error}): take another backup") from None
        stream.drain()
    if not description or not (target / "store.sqlite").is_file():
        raise ArchiveError("the backup is not whole: take another backup")
    return description


def _finish(target: Path, description: bytes, key: bytes | None) -> None:
    """Make an archive of unpacked parts: folders, link table, key, and archive.json at the end."""
    for part in ("private", "index", "pixels"):
        durable.make_folder(target / part, 0o700 if part == "private" else None)
    if key is not None:
        durable.write(target / "private" / KEY_FILE, key, 0o600)
    bare = not (target / "private" / LINKS_FILE).exists()
    if bare:
        Links.create(target / "private")
    keyless = not (target / "private" / KEY_FILE).exists()
    store = Store(target / "store.sqlite")
    try:
        begin_branch(store)
        if bare or keyless:
            with store.commit("restore") as commit:
                if bare:
                    # Images older than this have no link, and that is no fault.
                    commit.set("links_since", str(commit.generation))
                if keyless:
                    commit.set(NO_KEY, "absent")
    finally:
        store.close()
    durable.write(target / FILE, description)
    try:
        folder = Folder.open(target)
        if folder.format >= 3:
            # A backup that an upgrade came between has received files in both places.
            move_spool(target / "spool", folder.spool)
        else:
            durable.make_folder(target / "spool", 0o700)
        if not keyless:
            Identity(target / "private", folder.key)
    except ArchiveError:
        (target / FILE).unlink()
        raise
    durable.sync_folders([target])


@contextmanager
def _filled(target: Path, origin: Path, shared: bool = False) -> Iterator[None]:
    """Fill a new or empty folder outside of `origin`; it is emptied where that fails, for the next attempt.

    What a killed attempt left is deleted first: `unfinished` lies in it until the folder is whole.
    """
    if target.resolve().is_relative_to(origin.resolve()):
        raise ArchiveError(f"{target} lies in {origin}, of which it would be a copy: give a folder outside of it")
    taken = ArchiveError(f"{target} is not empty: give a new folder")
    names = {path.name for path in target.iterdir()} if target.exists() else set()
    if FILE in names or (names and UNFINISHED not in names):
        raise taken
    made = new_folders(target)
    durable.make_own_folder(target, shared)
    marker = target / UNFINISHED
    with durable.disk_errors(marker):
        descriptor = durable.create(marker, 0o600, os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveLocked(f"{target} is being filled by another process: give another folder") from None
        if not os.fstat(descriptor).st_nlink:
            raise taken  # another process has just come to its end
        try:
            durable.clear(target, keep=(UNFINISHED,))
            yield
            marker.unlink()
        except BaseException:
            discard(target, made)
            raise
    finally:
        os.close(descriptor)


def new_folders(target: Path) -> list[Path]:
    """Return the folders that have to be made for a new one, itself first."""
    return [folder for folder in (target, *target.parents) if not folder.exists()]


def discard(target: Path, made: Iterable[Path]) -> None:
    """Empty a folder that could not be filled, and delete those that were made for it.

    What cannot be deleted now, the next attempt deletes.
    """
    with suppress(OSError):
        (target / FILE).unlink(missing_ok=True)
        durable.clear(target)
        for folder in made:
            folder.rmdir()


def _require_sound(copy: Database, origin: Path) -> None:
    """Raise ArchiveError where the copy of a database shows that it is damaged."""
    damage = [line for (line,) in copy.query("PRAGMA quick_check(3)") if line != "ok"]
    if damage:
        raise ArchiveError(f"{origin} is damaged ({damage[0]}): restore it from an earlier backup; nothing was saved")


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's online backup: one consistent state, whoever writes meanwhile."""
    target.unlink(missing_ok=True)
    with storage_errors(source):
        origin = sqlite3.connect(address(source), uri=True, timeout=30)
    with closing(origin):
        with storage_errors(source):
            origin.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens it
        # What fails from here on is the writing.
        with durable.disk_errors(target):
            os.close(durable.create(target))
        with storage_errors(target), closing(sqlite3.connect(target)) as copy:
            origin.backup(copy)
            copy.execute("PRAGMA journal_mode=WAL")
    durable.sync_files([target])
    durable.sync_folders([target.parent])


def _copy_pixels(store: Store, origin: Pixels, out: _Target) -> tuple[list[Path], int]:
    """Copy the files that a store refers to; those missing, and how many there are.

    Raises:
        ArchiveError: Files are damaged; the message names the first.
    """
    copies, previews = store.pixel_names()
    paths = [*map(origin.path, copies), *map(origin.preview_path, previews)]
    missing, damaged = [], []
    for path in paths:
        name = f"pixels/{path.relative_to(origin.folder).as_posix()}"
        if out.has(name):
            continue
        try:
            data = durable.read(path)
        except FileNotFoundError:
            missing.append(path)
            continue
        except OSError:
            data = b""  # a disk that cannot read it
        if not _sound(path, data):
            damaged.append(path)
        elif not damaged:
            out.add(name, data)
    if damaged:
        which = "is damaged" if len(damaged) == 1 else f"and {len(damaged) - 1} more are damaged"
        raise ArchiveError(
            f"{damaged[0]} {which}: `medlike verify` lists all damage; restore what is damaged from an earlier "
            "backup, or remove its images; nothing was saved"
        )
    return missing, len(paths)


def _sound(path: Path, data: bytes) -> bool:
    """Return whether the content of a pixel or preview file is that of its name."""
    from medlike.imaging import Image, decode_pixels

    if path.suffix == ".jpg":
        return preview_name(data) == path.stem
    try:
        return Image(pixels=decode_pixels(data)).digest == path.stem
    except ImageError:
        return False
