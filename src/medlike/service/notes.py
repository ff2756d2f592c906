"""The notebook of an archive, private/service/notes.sqlite: stored receipts, and marks on the hits of queries.

It holds no pixel. What names an image that the archive no longer holds in any generation leaves it by `forget`.
"""

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Literal

from medlike import files as durable
from medlike import strict_json
from medlike.archive.archive import Archive
from medlike.archive.search.query import MOST_MARKS
from medlike.archive.storage.database import EACH, Database, each, storage_errors, transaction
from medlike.archive.storage.removal import purge
from medlike.errors import ArchiveFull, InputError
from medlike.service import audit
from medlike.types import JsonObject

FILE = "notes.sqlite"
DAYS = 30  # how long a receipt with the code of an uploaded image is kept
LARGEST = 2 << 20  # bytes of one receipt
PATIENCE = 1.0  # seconds to wait for readers of deleted rows
MOST_RECEIPTS = 10_000
MOST_MARKED = 10_000  # queries with marks
MOST_BYTES = 1 << 30  # of all receipts
Mark = Literal["like", "unlike"]
_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS receipts(
    id TEXT PRIMARY KEY, created REAL NOT NULL, expires REAL, size INTEGER NOT NULL, receipt TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS named(
    receipt TEXT NOT NULL REFERENCES receipts(id) ON DELETE CASCADE, image TEXT NOT NULL, PRIMARY KEY (receipt, image)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks(
    query TEXT NOT NULL, image TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (query, image)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS receipt_ends ON receipts(expires);
COMMIT;
"""
_UNPURGED = 1  # user_version of a file in which deleted rows may still be read
_opening = threading.Lock()


class NoteUnknown(InputError):
    """Raised if a stored receipt or a query with marks is asked for that the notebook does not hold."""


@dataclass(frozen=True)
class StoredReceipt:
    """A receipt in the notebook.

    Attributes:
        id: What it is asked for by.
        created: When it was stored, seconds since 1970.
        expires: When it leaves the notebook, seconds since 1970; None if it stays.
        receipt: The receipt.
    """

    id: str
    created: float
    expires: float | None
    receipt: JsonObject


class Notes(Database):
    """The notebook of one archive. Safe to use from many threads and processes."""

    @classmethod
    def of(cls, archive: Archive) -> "Notes":
        """Open the notebook of an archive; it is made where it is missing.

        Raises:
            ArchiveError: It cannot be made or read.
        """
        path = archive.path / "private" / "service" / FILE
        durable.require_plain(path.parent, folder=True)
        durable.require_plain(path)
        notes = cls(path)
        if not path.exists():
            with _opening:
                notes._create()
        return notes

    @classmethod
    def kept(cls, archive: Archive) -> "Notes | None":
        """Return the notebook of an archive; None if there is none yet."""
        there = os.path.lexists(archive.path / "private" / "service" / FILE)
        return cls.of(archive) if there else None

    def _create(self) -> None:
        durable.make_folder(self.path.parent, 0o700)
        draft = self.path.with_name(f"{FILE}.{secrets.token_hex(8)}")
        with durable.disk_errors(draft):
            os.close(durable.create(draft, 0o600))
        try:
            with storage_errors(draft), closing(sqlite3.connect(draft, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
            durable.sync_files([draft])
            with suppress(FileExistsError):  # another process may have made it meanwhile
                os.link(draft, self.path)
            durable.sync_folders([self.path.parent])
        finally:
            for name in (draft, *draft.parent.glob(f"{draft.name}-*")):
                name.unlink(missing_ok=True)

    def store(self, receipt: Mapping[str, object], now: float | None = None) -> StoredReceipt:
        """Store a receipt durably.

        Args:
            receipt: The receipt; the caller has checked that it is one.
            now: The time, seconds since 1970; by the clock unless given.

        Raises:
            InputError: It is too large.
            ArchiveFull: The notebook is full.
        """
        now = time.time() if now is None else now
        text = json.dumps(receipt, ensure_ascii=False)
        size = len(text.encode())
        if size > LARGEST:
            raise InputError(f"the receipt has {size:,} bytes: the limit is {LARGEST:,}")
        expires = now + DAYS * 86400 if holds_uploaded_code(receipt) else None
        made = StoredReceipt(secrets.token_hex(16), now, expires, dict(receipt))
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            _delete(connection, "expires <= ?", (now,))
            sql = "SELECT count(*), coalesce(sum(size), 0) FROM receipts"
            count, total = connection.execute(sql).fetchone()
            if count >= MOST_RECEIPTS or total + size > MOST_BYTES:
                raise ArchiveFull(
                    f"{count:,} receipts of {total:,} bytes are stored, the limit is {MOST_RECEIPTS:,} and "
                    f"{MOST_BYTES:,} bytes: delete some of them"
                )
            connection.execute(
                "INSERT INTO receipts VALUES (?, ?, ?, ?, ?)", (made.id, made.created, made.expires, size, text)
            )
            rows = [(made.id, image) for image in sorted(named_images(receipt))]
            connection.executemany("INSERT INTO named VALUES (?, ?)", rows)
        return made

    def receipt(self, id: str, now: float | None = None) -> StoredReceipt:
        """Return a stored receipt.

        Args:
            id: Its id.
            now: As for `store`.

        Raises:
            NoteUnknown: There is none of this id, or it has expired.
        """
        now = time.time() if now is None else now
        sql = "SELECT created, expires, receipt FROM receipts WHERE id = ? AND (expires IS NULL OR expires > ?)"
        row = self.first(sql, (id, now))
        if row is None:
            raise NoteUnknown(
                f"there is no stored receipt {id[:80]!r}: it was deleted, one of its images was erased, or it had the "
                f"code of an uploaded image and was stored more than {DAYS} days ago; search anew"
            )
        with storage_errors(self.path):
            return StoredReceipt(id, row[0], row[1], strict_json.loads(row[2]))

    def delete(self, id: str) -> None:
        """Delete a stored receipt, and the marks on it.

        Raises:
            NoteUnknown: There is none of this id.
        """
        self.receipt(id)
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            _delete(connection, "id = ?", (id,))

    def mark(self, query: str, image: str, mark: Mark) -> None:
        """Mark a stored image as like or unlike a query, durably; an earlier mark on it is replaced.

        Args:
            query: Id of an image or of a stored receipt.
            image: Id of the image.
            mark: "like" or "unlike".

        Raises:
            InputError: The query has too many marks.
            ArchiveFull: Too many queries have marks.
        """
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            others = "SELECT count(*) FROM marks WHERE query = ? AND image <> ?"
            (count,) = connection.execute(others, (query, image)).fetchone()
            if count >= MOST_MARKS:
                raise InputError(f"{count} images are marked for this query, the limit: delete a mark first")
            (queries,) = connection.execute("SELECT count(DISTINCT query) FROM marks").fetchone()
            if not count and queries >= MOST_MARKED:
                raise ArchiveFull(f"{queries:,} queries have marks, the limit: delete the marks of some")
            connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (query, image, mark))

    def marks(self, query: str) -> dict[str, list[str]]:
        """Return the marked images of a query: the ids under "like" and "unlike", in their order."""
        rows = self.query("SELECT image, mark FROM marks WHERE query = ? ORDER BY image", (query,))
        return {mark: [image for image, given in rows if given == mark] for mark in ("like", "unlike")}

    def marked(self, limit: int, offset: int) -> tuple[list[tuple[str, int, int]], int]:
        """Return a page of the queries that have marks, with their numbers of like and unlike, and how many there are.

        Args:
            limit: How many queries to return.
            offset: How many to skip.
        """
        sql = (
            "SELECT query, sum(mark = 'like'), sum(mark = 'unlike') FROM marks GROUP BY query ORDER BY query "
            "LIMIT ? OFFSET ?"
        )
        rows = [(str(query), int(like), int(unlike)) for query, like, unlike in self.query(sql, (limit, offset))]
        return rows, self.number("SELECT count(DISTINCT query) FROM marks")

    def unmark(self, query: str, image: str | None = None) -> int:
        """Delete the mark on an image, or all marks of a query, and return how many there were.

        Args:
            query: Id of an image or of a stored receipt.
            image: Id of the marked image; all unless given.
        """
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            sql = "DELETE FROM marks WHERE query = ? AND (? IS NULL OR image = ?)"
            return connection.execute(sql, (query, image, image)).rowcount

    def images(self) -> set[str]:
        """Return the ids of all images that receipts and marks name; ids of receipts that have marks are among them."""
        sql = "SELECT image FROM named UNION SELECT image FROM marks UNION SELECT query FROM marks"
        return {id for (id,) in self.query(sql)}

    def drop(self, gone: Sequence[str], now: float) -> int:
        """Drop receipts and marks that name images, and receipts that have expired; return how many.

        Args:
            gone: The ids of the images.
            now: Seconds since 1970.
        """
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            condition = f"expires <= ? OR id IN (SELECT receipt FROM named WHERE image IN {EACH})"
            dropped = _delete(connection, condition, (now, each(gone)))
            sql = f"DELETE FROM marks WHERE query IN {EACH} OR image IN {EACH}"
            dropped += connection.execute(sql, (each(gone), each(gone))).rowcount
            if dropped:
                connection.execute(f"PRAGMA user_version={_UNPURGED}")
        if self.number("PRAGMA user_version") == _UNPURGED:
            purge(self, PATIENCE)
            self.query("PRAGMA user_version=0")
        return dropped


def _delete(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> int:
    """Delete the receipts that meet a condition with the marks on them, and return how many they were."""
    doomed = each([id for (id,) in connection.execute(f"SELECT id FROM receipts WHERE {condition}", values)])
    connection.execute(f"DELETE FROM marks WHERE query IN {EACH}", (doomed,))
    return connection.execute(f"DELETE FROM receipts WHERE id IN {EACH}", (doomed,)).rowcount


def forget(archive: Archive) -> int:
    """Drop receipts and marks that name images which the archive holds in no generation, and what has expired.

    Call it when a service starts, and after each generation that another process may have made. Ids of such images
    in the log of who saw sources are replaced. It returns how many receipts and marks it dropped.

    Args:
        archive: The archive.

    Raises:
        ArchiveLocked: A reader holds deleted pages; call it again.
    """
    log = audit.log_of(archive.path)
    audit.forget(log, gone(archive, audit.shown(log)))
    notes = Notes.kept(archive)
    if notes is None:
        return 0
    try:
        receipts = {id for (id,) in notes.query("SELECT id FROM receipts")}
        return notes.drop(gone(archive, notes.images() - receipts), time.time())
    finally:
        notes.close()


def gone(archive: Archive, ids: set[str]) -> list[str]:
    """Return those of some ids that no generation of an archive holds."""
    with archive.session() as session:
        rows = session.store.query(f"SELECT DISTINCT id FROM images WHERE id IN {EACH}", (each(sorted(ids)),))
    return sorted(ids - {id for (id,) in rows})


def named_images(receipt: Mapping[str, object]) -> set[str]:
    """Return the ids of the images that a receipt names."""
    return {id for query in _queries(receipt) for id in _ids(query)}


def holds_uploaded_code(receipt: Mapping[str, object]) -> bool:
    """Return True if a receipt holds the code of an image that was given, not of a stored one."""
    return any(query.get("code") and query.get("id") is None for query in _queries(receipt))


def _queries(receipt: Mapping[str, object]) -> list[JsonObject]:
    query = receipt.get("query")
    return [] if not isinstance(query, dict) else [query, *query.get("members", ())]


def _ids(query: JsonObject) -> list[str]:
    return [id for id in (query.get("id"), query.get("copy"), *query.get("like", ()), *query.get("unlike", ())) if id]
