"""Checking an archive: rows against encodings, pixels, previews, links and spool. Changes nothing."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medlike.archive.storage import word_index
from medlike.archive.storage.database import EACH, Database, DigestedDatabase, each
from medlike.archive.storage.digests import damaged
from medlike.archive.storage.fits import facts_of
from medlike.archive.storage.folder import Folder
from medlike.archive.storage.identity import KEY_FILE, MISSING, NO_KEY, Identity, Links
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.removal import unfinished
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store
from medlike.archive.storage.upkeep import leftovers
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be. part: where; detail: what, and what to do."""

    part: str
    detail: str

    def __str__(self) -> str:
        return f"{self.part}: {self.detail}"


def verify(
    folder: Folder, store: Store, links: Links, pixels: Pixels, spool: Spool, alone: bool
) -> Iterator[Problem]:
    """Problems of all but the index. alone: no writer is at work, so that nothing may be half done."""
    yield from checked("permissions", lambda: _permissions(folder))
    yield from checked("store", lambda: _database(store))
    yield from checked("store", lambda: _rows(folder, store))
    yield from checked("pixels", lambda: _pixels(store, pixels))
    if alone:
        yield from checked("pixels", lambda: _leftovers(store, links, pixels))
    yield from checked("private", lambda: _key(folder, store))
    yield from checked("private", lambda: _links(store, links))
    yield from checked("spool", lambda: _spool(spool))


def checked(part: str, problems: Callable[[], Iterable[Problem]]) -> Iterator[Problem]:
    """Yield the problems of a part; where damage ends the check itself, that is a problem too.

    Raises ArchiveLocked or ArchiveFull where the check cannot be made now.
    """
    try:
        yield from problems()
    except (ArchiveLocked, ArchiveFull):
        raise
    except ArchiveError as error:
        yield Problem(part, str(error))
    except Exception as error:  # damage has no list of what it can end in
        name = type(error).__name__
        yield Problem(part, f"the check ended in {name} ({error}): restore the archive from a backup")


def _permissions(folder: Folder) -> Iterator[Problem]:
    closed = [folder.private] if folder.shared is not False else [folder.path, folder.private]
    for path in closed:
        if path.is_dir() and path.stat().st_mode & 0o077:
            yield Problem("permissions", f"other users may enter {path}: run `chmod -R go= {path}`")


def _database(store: Store) -> Iterator[Problem]:
    for text in _damage(store):
        yield Problem("store", f"{text}: restore the archive from a backup")
    for table, row, parent, _ in store.query("PRAGMA foreign_key_check"):
        yield Problem("store", f"{table} {row} refers to a missing row of {parent}")
    newest = store.generation()
    count = store.number("SELECT count(*) FROM generations")
    if count != newest + 1:
        yield Problem("store", f"{count} generations are recorded, the newest is {newest}")
    for row in store.select("added > ? OR removed > ? OR removed <= added", (newest, newest)):
        yield Problem("store", f"row {row} has impossible generations")
    if words := word_index.difference(store):
        yield Problem("store", f"the word index differs from the texts ({words}): run `medlike compact`")


def _damage(database: Database) -> list[str]:
    """Return what SQLite's own check of a file finds."""
    return [line for (line,) in database.query("PRAGMA integrity_check") if line != "ok"]


def _rows(folder: Folder, store: Store) -> Iterator[Problem]:
    yield from _digests("store", store)
    bundle, text, fit = folder.bundle, folder.text, folder.fit
    if fit is not None and facts_of(store, fit.digest) is None:
        yield Problem("store", f"fit {fit.digest[:16]} is missing or damaged: run `medlike fit`")
    for row in store.unencoded(bundle.digest):
        yield Problem("store", f"row {row} has no encoding under {bundle.name}: run `medlike reindex`")
    if text is not None:
        repair = f"medlike reindex --text-bundle {text.path or text.name}"
        for row in store.unencoded(text.digest):
            yield Problem("store", f"row {row} has no code under {text.name}: run `{repair}`")
    sql = (
        "SELECT row, length(code), length(content) FROM encodings "
        "WHERE bundle = ? AND (length(code) <> ? OR length(content) <> ?)"
    )
    for row, code, content in store.query(sql, (bundle.digest, bundle.bits // 8, bundle.content_dim)):
        yield Problem("store", f"row {row}: code of {code} bytes, content of {content}")


def _digests(part: str, database: DigestedDatabase) -> Iterator[Problem]:
    for table in database.tables:
        for row in damaged(database, table):
            yield Problem(part, f"row {row} of {table} is damaged: restore the archive from a backup")


def _pixels(store: Store, pixels: Pixels) -> Iterator[Problem]:
    # What is being erased loses its files before its rows.
    copies, previews = store.pixel_names("row NOT IN (SELECT row FROM erasing)")
    for digest in copies:
        yield from _file("pixels", digest, pixels.path, pixels.read)
    for sha256 in previews:
        yield from _file("previews", sha256, pixels.preview_path, pixels.read_preview)


def _file(part: str, name: str, path: Callable[[str], Path], read: Callable[[str], object]) -> Iterator[Problem]:
    """Yield a problem unless the file of a name is there and sound."""
    try:
        if read(name) is None:
            yield Problem(part, f"{path(name)} is missing: restore it from a backup")
    except (ArchiveError, OSError) as error:
        yield Problem(part, str(error))


def _leftovers(store: Store, links: Links, pixels: Pixels) -> Iterator[Problem]:
    for row in unfinished(store):
        yield Problem("store", f"the erasure of row {row} is not finished: write something to finish it")
    files, ids = leftovers(store, links, pixels)
    for path in files:
        yield Problem("pixels", f"{path} belongs to no image: run `medlike compact`")
    for id in ids:
        yield Problem("private", f"the link of {id} belongs to no image: run `medlike compact`")


def _key(folder: Folder, store: Store) -> Iterator[Problem]:
    if store.setting(NO_KEY, "") and not os.path.lexists(folder.private / KEY_FILE):
        return  # restored without it, as its backup was made
    try:
        Identity(folder.private, folder.key)
    except ArchiveError as error:
        yield Problem("private", str(error))


def _links(store: Store, links: Links) -> Iterator[Problem]:
    if not os.path.lexists(links.path):
        yield Problem("private", f"{links.path} is missing: {MISSING}")
        return
    if not links.present:
        yield Problem("private", f"{links.path} cannot be read: check permissions")
        return
    for text in _damage(links):
        yield Problem("private", f"{links.path}: {text}: restore it from a backup")
    yield from _digests("private", links)
    # An archive restored without its links lacks those of its older images.
    since = int(store.setting("links_since", "-1"))
    sql = (
        "SELECT row, id FROM images WHERE removed IS NULL AND added > :since AND row > :last ORDER BY row LIMIT :size"
    )
    for page in store.pages(sql, {"since": since}):
        # Not `find`, which ends at a damaged row.
        sql = f"SELECT id FROM links WHERE id IN {EACH}"
        known = {id for (id,) in links.query(sql, (each(id for _, id in page),))}
        for _, id in page:
            if id not in known:
                yield Problem("private", f"{id} has no link to where it came from")


def _spool(spool: Spool) -> Iterator[Problem]:
    for text in spool.damaged():
        yield Problem("spool", text)
