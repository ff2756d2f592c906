"""Checking an archive: rows against encodings, pixels, previews, links and spool. Changes nothing."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from medlike.archive.storage.database import storage_errors, unwritten
from medlike.archive.storage.folder import Folder
from medlike.archive.storage.identity import KEY_FILE, NO_KEY, Identity, Links
from medlike.archive.storage.pixels import Pixels
from medlike.archive.storage.removal import unfinished
from medlike.archive.storage.spool import Spool
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError


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
    yield from _permissions(folder)
    yield from _database(store)
    yield from _rows(folder, store)
    yield from _pixels(store, pixels)
    if alone:
        yield from _leftovers(store, links, pixels)
    yield from _key(folder, store)
    yield from _links(store, links)
    yield from _spool(spool)


def _permissions(folder: Folder) -> Iterator[Problem]:
    closed = [folder.private] if folder.shared is not False else [folder.path, folder.private]
    for path in closed:
        if path.is_dir() and path.stat().st_mode & 0o077:
            yield Problem("permissions", f"other users may enter {path}: run `chmod -R go= {path}`")


def _database(store: Store) -> Iterator[Problem]:
    with storage_errors(store.path):
        for (line,) in store.connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield Problem("store", f"{line}: restore the archive from a backup")
        for table, row, parent, _ in store.connection.execute("PRAGMA foreign_key_check"):
            yield Problem("store", f"{table} {row} refers to a missing row of {parent}")
        newest = store.generation()
        count = store.connection.execute("SELECT count(*) FROM generations").fetchone()[0]
        if count != newest + 1:
            yield Problem("store", f"{count} generations are recorded, the newest is {newest}")
        late = store.select("added > ? OR removed > ? OR removed <= added", (newest, newest))
        for row in late:
            yield Problem("store", f"row {row} has impossible generations")
    with storage_errors(store.path):
        try:
            # The word index compares itself with the texts; it answers by failing.
            _writable(store).execute("INSERT INTO words(words, rank) VALUES ('integrity-check', 1)")
        except sqlite3.DatabaseError as error:
            if not error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
                raise
            yield Problem("store", f"the word index differs from the texts ({error}): run `medlike compact`")


def _writable(store: Store) -> sqlite3.Connection:
    """The store's connection; where it may not write, one to a temporary copy."""
    if not unwritten(store.path):
        return store.connection
    copy = sqlite3.connect("")
    store.connection.backup(copy)
    return copy


def _rows(folder: Folder, store: Store) -> Iterator[Problem]:
    bundle = folder.bundle
    with storage_errors(store.path):
        bare = store.select(
            "removed IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM encodings WHERE encodings.row = images.row AND bundle = ?)",
            (bundle.digest,),
        )
        for row in bare:
            yield Problem("store", f"row {row} has no encoding under {bundle.name}: run `medlike reindex`")
        text = folder.text
        if text is not None:
            bare = store.select(
                "removed IS NULL AND NOT EXISTS"
                " (SELECT 1 FROM encodings WHERE encodings.row = images.row AND bundle = ?)",
                (text.digest,),
            )
            for row in bare:
                repair = f"medlike reindex --text-bundle {text.path or text.name}"
                yield Problem("store", f"row {row} has no code under {text.name}: run `{repair}`")
        wrong = store.connection.execute(
            "SELECT row, length(code), length(content) FROM encodings "
            "WHERE bundle = ? AND (length(code) <> ? OR length(content) <> ?)",
            (bundle.digest, bundle.bits // 8, bundle.content_dim),
        )
        for row, code, content in wrong:
            yield Problem("store", f"row {row}: code of {code} bytes, content of {content}")


def _pixels(store: Store, pixels: Pixels) -> Iterator[Problem]:
    from medlike.imaging import Image

    # What is being erased loses its files before its rows.
    staying = "row NOT IN (SELECT row FROM erasing)"
    with storage_errors(store.path):
        query = store.connection.execute
        digests = query(f"SELECT DISTINCT pixels FROM images WHERE kind = 'copy' AND {staying}").fetchall()
        previews = query(f"SELECT DISTINCT preview FROM images WHERE preview > '' AND {staying}").fetchall()
    for (digest,) in digests:
        try:
            found = pixels.read(digest)
        except (ArchiveError, OSError) as error:
            yield Problem("pixels", str(error))
            continue
        if found is None:
            yield Problem("pixels", f"{pixels.path(digest)} is missing: restore it from a backup")
        elif Image(pixels=found).digest != digest:
            yield Problem("pixels", f"{pixels.path(digest)} is damaged: restore it from a backup")
    for (sha256,) in previews:
        try:
            data = pixels.read_preview(sha256)
        except (ArchiveError, OSError) as error:
            yield Problem("previews", str(error))
            continue
        if data is None:
            yield Problem("previews", f"{pixels.preview_path(sha256)} is missing: restore it from a backup")
        elif hashlib.sha256(data).hexdigest() != sha256:
            yield Problem("previews", f"{pixels.preview_path(sha256)} is damaged: restore it from a backup")


def _leftovers(store: Store, links: Links, pixels: Pixels) -> Iterator[Problem]:
    for row in unfinished(store):
        yield Problem("store", f"the erasure of row {row} is not finished: write something to finish it")
    with storage_errors(store.path):
        query = store.connection.execute
        digests = {digest for (digest,) in query("SELECT DISTINCT pixels FROM images WHERE kind = 'copy'")}
        previews = {
            name for (name,) in query("SELECT DISTINCT preview FROM images WHERE preview IS NOT NULL")
        }
        ids = {id for (id,) in query("SELECT DISTINCT id FROM images")}
    for path in pixels.leftovers(digests, previews):
        yield Problem("pixels", f"{path} belongs to no image: run `medlike compact`")
    for id in links.all_ids():
        if id not in ids:
            yield Problem("private", f"the link of {id} belongs to no image: run `medlike compact`")


def _key(folder: Folder, store: Store) -> Iterator[Problem]:
    if store.setting(NO_KEY, "") and not os.path.lexists(folder.private / KEY_FILE):
        return  # restored without it, as its backup was made
    try:
        Identity(folder.private, folder.key)
    except ArchiveError as error:
        yield Problem("private", str(error))


def _links(store: Store, links: Links) -> Iterator[Problem]:
    if not links.present:
        yield Problem("private", f"{links.path} is missing or cannot be read: restore it from a backup")
        return
    with storage_errors(links.path):
        for (line,) in links.connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                yield Problem("private", f"{links.path}: {line}: restore it from a backup")
    # An archive restored without its links lacks those of its older images.
    since = int(store.setting("links_since", "-1"))
    last = 0
    while True:
        with storage_errors(store.path):
            sql = "SELECT row, id FROM images WHERE removed IS NULL AND added > ? AND row > ? ORDER BY row LIMIT 5000"
            page = store.connection.execute(sql, (since, last)).fetchall()
        if not page:
            return
        found = links.find([id for _, id in page])
        last = page[-1][0]
        for _, id in page:
            if id not in found:
                yield Problem("private", f"{id} has no link to where it came from")


def _spool(spool: Spool) -> Iterator[Problem]:
    for text in spool.damaged():
        yield Problem("spool", text)
