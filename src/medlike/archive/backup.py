"""Backup while the archive is in use, and restore.

A backup is a folder that is itself an archive: the store as of one generation, the pixels and previews it
refers to, the id key (without it new images could not be told from stored ones), the spool's acknowledged
files, and, only on request, the link table. The index is left out: it is rebuilt.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medlike.archive import durable
from medlike.archive.database import address, storage_errors
from medlike.archive.folder import FILE, Folder
from medlike.archive.identity import KEY_FILE, LINKS_FILE, Identity, Links
from medlike.archive.pixels import Pixels
from medlike.archive.sealing import seal, unseal
from medlike.archive.spool import Spool
from medlike.archive.store import Store
from medlike.errors import ArchiveError

SEALED_KEY_FILE = "key.sealed"
_TRIES = 5


@dataclass
class BackupReport:
    """images: live ones. files: pixel and preview files. generation: the one that was saved."""

    images: int = 0
    files: int = 0
    generation: int = 0
    links: bool = False


def backup(folder: Folder, target: Path, links: bool = False, passphrase: str | None = None) -> BackupReport:
    """Write a backup into `target`, which must not exist or be empty. Readers and a writer may go on.

    links: with the link table, which says whose images these are. passphrase: encrypts the id key.
    Raises ArchiveError where the target is not empty or in the archive, ArchiveFull where its disk is full.
    """
    with _filled(target, folder.path):
        report, missing = _save(folder, target, links, passphrase)
    if missing:
        raise ArchiveError(
            f"{len(missing)} pixel files are missing, among them {missing[0]}: run `medlike verify`"
        )
    return report


def _save(folder: Folder, target: Path, links: bool, passphrase: str | None) -> tuple[BackupReport, list[Path]]:
    durable.make_folder(target / "private", 0o700)
    durable.make_folder(target / "spool", 0o700)
    # Received files first: one that is committed meanwhile is then in the store's copy as well or alone.
    for entry in Spool(folder.spool).entries():
        try:
            sidecar = entry.path.with_name(f"{entry.ticket}.json").read_bytes()
            data = entry.path.read_bytes()
        except FileNotFoundError:
            continue  # committed just now
        durable.write(target / "spool" / entry.path.name, data, 0o600, sync_folder=False)
        durable.write(target / "spool" / f"{entry.ticket}.json", sidecar, 0o600)
    for attempt in range(_TRIES):
        description = (folder.path / FILE).read_bytes()
        _copy_database(folder.store, target / "store.sqlite")
        if links:
            # Links are written before their images: copied later, none is lacking. Those too many go at the restore.
            _copy_database(folder.private / LINKS_FILE, target / "private" / LINKS_FILE)
        store = Store(target / "store.sqlite")
        try:
            missing, files = _copy_pixels(store, Pixels(folder.pixels), Pixels(target / "pixels"))
            report = BackupReport(store.count(), files, store.generation(), links)
        finally:
            store.close()
        # Else a compaction or a switch of bundles came between: once more.
        settled = not missing and description == (folder.path / FILE).read_bytes()
        if settled or attempt == _TRIES - 1:
            break
    key = (folder.private / KEY_FILE).read_bytes()
    if passphrase is None:
        durable.write(target / "private" / KEY_FILE, key, 0o600)
    else:
        durable.write(target / "private" / SEALED_KEY_FILE, seal(key, passphrase), 0o600)
    # Last: without archive.json the folder is not an archive, so that half a backup is never taken for one.
    durable.write(target / FILE, description)
    return report, missing


def restore(source: Path, target: Path, passphrase: str | None = None) -> Folder:
    """Make an archive of a backup in a new folder. ArchiveError for no backup or a wrong passphrase."""
    Folder.open(source)
    sealed = source / "private" / SEALED_KEY_FILE
    if sealed.exists():
        if passphrase is None:
            raise ArchiveError(f"the id key in {source} is encrypted: give the passphrase of the backup")
        key = unseal(sealed.read_bytes(), passphrase)
    else:
        key = (source / "private" / KEY_FILE).read_bytes()
    with _filled(target, source, bool(Folder.open(source).shared)):
        _unpack(source, target, key)
    return Folder.open(target)


def _unpack(source: Path, target: Path, key: bytes) -> None:
    for part in ("private", "spool", "index", "pixels"):
        durable.make_folder(target / part, 0o700 if part in ("private", "spool") else None)
    for path in durable.files(source):
        place = path.relative_to(source)
        if place.parts[0] in ("spool", "pixels"):
            durable.make_folder((target / place).parent)
            _copy(path, target / place)
    _copy_database(source / "store.sqlite", target / "store.sqlite")
    if (source / "private" / LINKS_FILE).exists():
        _copy_database(source / "private" / LINKS_FILE, target / "private" / LINKS_FILE)
    else:
        Links.create(target / "private")
        store = Store(target / "store.sqlite")
        with store.commit("restore") as commit:
            # Images older than this have no link, and that is no fault.
            commit.set("links_since", str(commit.generation))
        store.close()
    durable.write(target / "private" / KEY_FILE, key, 0o600)
    Identity(target / "private", Folder.open(source).key)
    durable.write(target / FILE, (source / FILE).read_bytes())


@contextmanager
def _filled(target: Path, origin: Path, shared: bool = False) -> Iterator[None]:
    """Fill a new or empty folder outside of `origin`; it is emptied where that fails, for the next attempt."""
    if target.resolve().is_relative_to(origin.resolve()):
        raise ArchiveError(f"{target} lies in {origin}, of which it would be a copy: give a folder outside of it")
    if target.exists() and any(target.iterdir()):
        raise ArchiveError(f"{target} is not empty: give a new folder")
    durable.make_own_folder(target, shared)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            durable.clear(target)
        raise


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
    with target.open("rb") as file:
        os.fsync(file.fileno())
    durable.sync_folders([target.parent])


def _copy_pixels(store: Store, origin: Pixels, copy: Pixels) -> tuple[list[Path], int]:
    """Copy the files that a store refers to; those missing, and how many there are."""
    with storage_errors(store.path):
        query = store.connection.execute
        pairs = [
            (origin.path(digest), copy.path(digest))
            for (digest,) in query("SELECT DISTINCT pixels FROM images WHERE kind = 'copy'")
        ] + [
            (origin.preview_path(sha256), copy.preview_path(sha256))
            for (sha256,) in query("SELECT DISTINCT preview FROM images WHERE preview IS NOT NULL")
        ]
    missing = []
    for source, target in pairs:
        if not target.exists():
            durable.make_folder(target.parent)
            try:
                _copy(source, target)
            except FileNotFoundError:
                missing.append(source)
    durable.sync_folders({target.parent for _, target in pairs if target.parent.exists()})
    return missing, len(pairs)


def _copy(source: Path, target: Path) -> None:
    """A file copied whole and fsynced. Not a hard link: a backup must survive damage to the archive."""
    with source.open("rb"), durable.disk_errors(target):
        partial = target.with_name(target.name + durable.PARTIAL)
        os.close(durable.create(partial, flags=os.O_TRUNC))
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(target)
