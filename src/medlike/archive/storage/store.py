"""The truth of an archive: one SQLite file with metadata, texts, encodings and generations.

WAL with synchronous=FULL: a commit that returned has been fsynced. secure_delete zeroes what is deleted.
Every commit raises the generation; a row lives from its `added` to its `removed` generation, so that a
search can be repeated as of any generation that is kept.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage import digests
from medlike.archive.storage.database import (
    EACH,
    DigestedDatabase,
    damaged_row,
    each,
    require_sound,
    storage_errors,
    transaction,
)
from medlike.archive.storage.rows import EncodingRow, ImageRow, NewImage, Shown
from medlike.archive.storage.schema import SCHEMA, upgrade
from medlike.errors import ArchiveError
from medlike.types import Json

FILE = "store.sqlite"
TEXTS = 64  # texts that an image may have
CHECKED = 1 << 16  # rows that are remembered as checked

_IMAGE_COLUMNS = tuple(field.name for field in fields(ImageRow))
_SELECT_IMAGE = ", ".join(f"images.{name}" for name in _IMAGE_COLUMNS)
_SELECT_BARE = ", ".join(f"images.{name}" for name in _IMAGE_COLUMNS[:-2])
_ENCODING_COLUMNS = tuple(field.name for field in fields(EncodingRow))
# The store of an earlier medlike lacks the last two until it is next written to; an index needs neither.
_SELECT_FIRST = ", ".join(f'encodings."{name}"' for name in _ENCODING_COLUMNS[:-2])
_NEWEST = "SELECT max(generation) FROM generations"
_WRITTEN = tuple(name for name in _IMAGE_COLUMNS if name not in ("row", "added", "removed"))


class Store(DigestedDatabase):
    """An open store. Safe to use from many threads and after a fork."""

    def __init__(self, path: Path) -> None:
        try:
            present = path.is_file()
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read ({error.strerror}): check permissions") from error
        if not present:
            raise ArchiveError(f"{path} is missing: restore the archive from a backup")
        super().__init__(path, {table: digests.SOUND[table] for table in digests.TABLES}, digests.PROBES)
        # Digests, and None for rows without one. A row that is written anew has another digest.
        self._checked: set[bytes | None] = {None}
        self._present: set[str] = set()  # columns of encodings, once the store has all

    @classmethod
    def create(cls, path: Path) -> "Store":
        """Make an empty store at generation 0. `path` must not exist."""
        if path.exists():
            raise ArchiveError(f"{path} exists already")
        # Log and shared memory beside it have the permissions of the file that is there.
        with durable.disk_errors(path):
            os.close(durable.create(path))
        with storage_errors(path), closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")
            connection.execute("INSERT INTO generations VALUES (0, ?, 'create', 0)", (time.time(),))
        return cls(path)

    # Reading

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """One consistent view: every read inside sees the same commit."""
        connection = self.connection
        if connection.in_transaction:
            yield connection
            return
        with storage_errors(self.path):
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    def generation(self) -> int:
        """Return the newest published generation; within a snapshot, the snapshot's."""
        return self.number(_NEWEST)

    def published(self) -> int:
        """Return the newest published generation, whatever this thread's snapshot sees."""
        with storage_errors(self.path), closing(self.opened()) as connection:
            return int(connection.execute(_NEWEST).fetchone()[0])

    def oldest_generation(self) -> int:
        """Return the oldest generation as of which a search can still be repeated (compact raises it)."""
        return int(self.setting("oldest_generation", "0"))

    def setting(self, key: str, default: str) -> str:
        """Return a value of the settings table, or the default."""
        row = self.first("SELECT value FROM settings WHERE key = ?", (key,))
        return row[0] if row else default

    def count(self, generation: int | None = None) -> int:
        """Return how many images are live, now or as of a generation."""
        where, values = alive(generation)
        return self.number(f"SELECT count(*) FROM images WHERE {where}", values)

    def find(self, id: str, generation: int | None = None) -> ImageRow | None:
        """Return the live image of an id, now or as of a generation; None if there is none."""
        where, values = alive(generation)
        return next(iter(self._images(f"images.id = ? AND {where}", (id, *values))), None)

    def images(self, rows: Sequence[int]) -> dict[int, ImageRow]:
        """Return images by their row number, for the rows that exist, removed ones included."""
        return {image.row: image for image in self._images(f"images.row IN {EACH}", (each(rows),))}

    def shown(self, rows: Sequence[int]) -> dict[int, Shown]:
        """Return what a hit states of images, by row number, for the rows that exist, removed ones included."""
        shown: dict[int, Shown] = {}
        sql = f"SELECT row, id, width, height, metadata, {self._digest('images')} FROM images WHERE row IN {EACH}"
        for start in range(0, len(rows), 500):
            page = self._checked_query("images", sql, (each(rows[start : start + 500]),))
            with storage_errors(self.path):
                # One text of JSON is read in half the time of its pieces.
                metadata = strict_json.loads(f"[{','.join(row[4] for row in page)}]", depth=strict_json.DEPTH + 1)
            for (row, id, width, height, *_), facts in zip(page, metadata, strict=True):
                shown[row] = Shown(id, width, height, facts)
        return shown

    def select(self, where: str, values: Sequence[object] = ()) -> list[int]:
        """Return the rows that satisfy an SQL condition on `images`, ascending; values are bound."""
        return [row for (row,) in self.query(f"SELECT row FROM images WHERE {where} ORDER BY row", values)]

    def unencoded(self, bundle: str) -> list[int]:
        """Return the rows of live images without an encoding under a bundle (its digest), ascending."""
        sql = "SELECT 1 FROM encodings WHERE encodings.row = images.row AND bundle = ?"
        return self.select(f"removed IS NULL AND NOT EXISTS ({sql})", (bundle,))

    def ids(self, prefix: str = "") -> list[str]:
        """Return the ids of the live images that begin with some hex digits, in the order they were added."""
        sql = "SELECT id FROM images WHERE removed IS NULL AND substr(id, 1, ?) = ? ORDER BY row"
        return [id for (id,) in self.query(sql, (len(prefix), prefix.lower()))]

    def rows_of(self, prefix: str) -> list[int]:
        """Return the rows of the live images whose ids begin with some hex digits, in any order."""
        sql = "SELECT row FROM images WHERE removed IS NULL AND id BETWEEN ? AND ?"
        return [row for (row,) in self.query(sql, (prefix, prefix.ljust(32, "f")))]

    def stamp(self, id: str) -> str | None:
        """Return 32 hex digits that change with what a live image shows; None if there is no such image."""
        row = self.first("SELECT pixels, preview, facts FROM images WHERE id = ? AND removed IS NULL", (id,))
        return None if row is None else hashlib.sha256("\n".join(map(str, row)).encode()).hexdigest()[:32]

    def all_ids(self) -> set[str]:
        """Return the ids of all images, removed ones included."""
        return {id for (id,) in self.query("SELECT DISTINCT id FROM images")}

    def pixel_names(self, where: str = "1") -> tuple[list[str], list[str]]:
        """Return the digests of the stored pixels and of the previews of all images that satisfy an SQL condition."""
        copies = self.query(f"SELECT DISTINCT pixels FROM images WHERE kind = 'copy' AND {where}")
        previews = self.query(f"SELECT DISTINCT preview FROM images WHERE preview IS NOT NULL AND {where}")
        return [digest for (digest,) in copies], [sha256 for (sha256,) in previews]

    def encoding(self, row: int, bundle: str) -> EncodingRow | None:
        """Return the encoding of a row under a bundle (its digest), None if there is none."""
        present = self._present or {name for (name,) in self.query("SELECT name FROM pragma_table_info('encodings')")}
        if present.issuperset(_ENCODING_COLUMNS):
            self._present = present
        columns = ", ".join(f'"{name}"' if name in present else "NULL" for name in _ENCODING_COLUMNS)
        sql = f"SELECT row, {columns}, {self._digest('encodings')} FROM encodings WHERE row = ? AND bundle = ?"
        encodings = self._checked_query("encodings", sql, (row, bundle))
        return EncodingRow(*encodings[0][1:-1]) if encodings else None

    def texts(self, row: int) -> dict[str, str]:
        """Return the texts of a row by kind."""
        return self.texts_of([row]).get(row, {})

    def texts_of(self, rows: Sequence[int]) -> dict[int, dict[str, str]]:
        """Return texts by row and kind, for the rows that have texts."""
        texts: dict[int, dict[str, str]] = {}
        sql = f"SELECT number, row, kind, text, {self._digest('texts')} FROM texts WHERE row IN {EACH} ORDER BY number"
        for _, row, kind, text, _ in self._checked_query("texts", sql, (each(rows),)):
            texts.setdefault(row, {})[kind] = text
        return texts

    def text(self, number: int) -> tuple[str, str, str] | None:
        """Return (id of the image, kind, text) of a text by its number, None if there is none."""
        columns = f"images.id, texts.kind, texts.text, {self.sound('images')}, {self.sound('texts')}"
        sql = f"SELECT {columns} FROM texts JOIN images ON images.row = texts.row WHERE number = ?"
        row = self.first(sql, (number,))
        if row is None:
            return None
        require_sound(self.path, "texts", number, min(row[3:]))
        return (row[0], row[1], row[2])

    def text_numbers(self, row: int) -> list[int]:
        """Return the numbers of the texts of a row, ascending."""
        return [number for (number,) in self.query("SELECT number FROM texts WHERE row = ? ORDER BY number", (row,))]

    def rows(
        self, bundle: str, since: int = -1, until: int | None = None
    ) -> Iterator[tuple[ImageRow, EncodingRow]]:
        """Yield the rows with an encoding under a bundle (digest), added in (since, until], ascending by row number.

        Without outlier_facts and features. Rows removed since are included, with `removed` set; `facts` and
        `metadata` are left empty (`images` has them).
        """
        # By row number, whatever SQLite thinks of the other indexes: a page must not cost a sort of all rows.
        sql = (
            f"SELECT {_SELECT_BARE}, {_SELECT_FIRST}, {self.sound('images')}, {self.sound('encodings')} "
            "FROM images NOT INDEXED CROSS JOIN encodings "
            "ON encodings.row = images.row AND encodings.bundle = :bundle "
            "WHERE images.row > :last AND images.added > :since AND images.added <= :until "
            "ORDER BY images.row LIMIT :size"
        )
        values = {"bundle": bundle, "since": since, "until": self.generation() if until is None else until}
        # Rows are numbered in the order of their generations. Not min(row), for which SQLite goes through them all.
        first = self.number("SELECT row FROM images WHERE added > ? ORDER BY added, row LIMIT 1", (since,))
        cut = len(_IMAGE_COLUMNS) - 2
        for page in self.pages(sql, values, max(first - 1, 0)):
            for row in page:
                require_sound(self.path, "images", row[0], row[-2])
                require_sound(self.path, "encodings", row[0], row[-1])
                yield ImageRow(*row[:cut]), EncodingRow(*row[cut:-2])

    def removals(self, since: int = -1, until: int | None = None) -> list[tuple[int, int]]:
        """Return (row, removed) of the rows removed in (since, until], ascending by row number."""
        until = self.generation() if until is None else until
        sql = "SELECT row, removed FROM images WHERE removed > ? AND removed <= ? ORDER BY row"
        return [(row, removed) for row, removed in self.query(sql, (since, until))]

    def last_purge(self, since: int = 0) -> int:
        """Return the last generation after `since` at which rows were deleted for good, or `since`."""
        sql = "SELECT max(generation) FROM generations WHERE generation > ? AND action IN ('erase', 'compact')"
        return self.number(sql, (since,)) or since

    def erased(self, generation: int) -> int:
        """Return how many images that a search as of this generation could have seen were erased since."""
        sql = "SELECT sum(count) FROM erasures WHERE added <= ? AND (removed IS NULL OR removed > ?)"
        return self.number(sql, (generation, generation))

    def _images(self, where: str, values: Sequence[object]) -> list[ImageRow]:
        sql = f"SELECT {_SELECT_IMAGE}, {self._digest('images')} FROM images WHERE {where}"
        rows = self._checked_query("images", sql, values)
        with storage_errors(self.path):
            return [ImageRow(*(*row[:-3], *map(strict_json.loads, row[-3:-1]))) for row in rows]

    def _digest(self, table: str) -> str:
        """Return the SQL expression of the digest that the rows of a table were written with."""
        return f"{table}.digest" if self.has_digests(table) else "NULL"

    def _checked_query(self, table: str, sql: str, values: Sequence[object]) -> list[tuple[Json, ...]]:
        """Return rows of a table, each compared with its digest unless this process has done so before.

        Args:
            table: Its name.
            sql: Selects the rows: their numbers first, `_digest` last.
            values: What the statement binds.

        Raises:
            ArchiveError: A row is not what was written.
        """
        with self.snapshot():
            rows = self.query(sql, values)
            if not self._checked.issuperset([row[-1] for row in rows]):
                self._check(table, {row[-1]: row[0] for row in rows})
        return rows

    def _check(self, table: str, numbers: dict[bytes | None, int]) -> None:
        """Compare rows with their digests: numbers of the rows by digest, in one view with what selected them."""
        unchecked = {digest: number for digest, number in numbers.items() if digest not in self._checked}
        sql = f"SELECT digest FROM {table} WHERE {digests.TABLES[table][0]} IN {EACH} AND {digests.SOUND[table]}"
        sound = {digest for (digest,) in self.query(sql, (each(unchecked.values()),))}
        for digest, number in unchecked.items():
            if digest not in sound:
                raise damaged_row(self.path, table, number)
        if len(self._checked) > CHECKED:
            self._checked = {None}
        self._checked.update(sound)

    # Writing (the caller holds the writer's lock)

    def upgrade(self) -> None:
        """Add what an archive made by an earlier medlike lacks."""
        with storage_errors(self.path):
            upgrade(self.connection)

    @contextmanager
    def commit(self, action: str) -> Iterator["Commit"]:
        """One transaction that raises the generation by one; rolled back when the body raises."""
        connection = self.connection
        with storage_errors(self.path), transaction(connection):
            commit = Commit(connection, self.generation() + 1)
            yield commit
            connection.execute(
                "INSERT INTO generations VALUES (?, ?, ?, ?)",
                (commit.generation, time.time(), action, commit.rows),
            )


class Commit:
    """A transaction under way; its rows carry `generation`."""

    def __init__(self, connection: sqlite3.Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation
        self.rows = 0

    def add(self, image: NewImage, bundle: str) -> int:
        """Insert an image with its encoding and texts; its id must not be live. The new row's number."""
        names = [name for name in _WRITTEN if name in image.columns]
        marks = ", ".join("?" * (len(names) + 1))
        values = [
            json.dumps(image.columns[name], ensure_ascii=False, sort_keys=True)
            if name in ("facts", "metadata")
            else image.columns[name]
            for name in names
        ]
        inserted = self.connection.execute(
            f"INSERT INTO images({', '.join(names)}, added) VALUES ({marks})", (*values, self.generation)
        )
        row = inserted.lastrowid
        assert row is not None
        digests.seal(self.connection, "images", "row = ?", (row,))
        self.encode(row, bundle, image.encoding)
        texts = [(kind, text) for kind, text in image.texts.items() if text]
        # Numbers are never used again, as rows are not: what is derived from a text names it by its number.
        self.connection.executemany(
            "INSERT INTO texts(number, row, kind, text) VALUES (?, ?, ?, ?)",
            [(TEXTS * row + at, row, kind, text) for at, (kind, text) in enumerate(texts[:TEXTS])],
        )
        if texts:
            digests.seal(self.connection, "texts", "row = ?", (row,))
        self.rows += 1
        return row

    def encode(self, row: int, bundle: str, encoding: EncodingRow) -> None:
        """Store a row's encoding under a bundle (digest), in place of an earlier one."""
        names = ", ".join(f'"{name}"' for name in _ENCODING_COLUMNS)
        marks = ", ".join("?" * (len(_ENCODING_COLUMNS) + 2))
        values = [getattr(encoding, name) for name in _ENCODING_COLUMNS]
        self.connection.execute(
            f"INSERT OR REPLACE INTO encodings(row, bundle, {names}) VALUES ({marks})", (row, bundle, *values)
        )
        digests.seal(self.connection, "encodings", "row = ? AND bundle = ?", (row, bundle))

    def encode_texts(self, bundle: str, codes: Mapping[int, tuple[bytes, bytes]]) -> None:
        """Store the codes of texts under a text bundle (digest), in place of earlier ones.

        Args:
            bundle: Digest of the bundle.
            codes: By a text's number, its code and its embedding.
        """
        self.connection.executemany(
            "INSERT OR REPLACE INTO text_encodings(number, bundle, code, embedding) VALUES (?, ?, ?, ?)",
            [(number, bundle, *values) for number, values in codes.items()],
        )
        if codes and self.connection.execute(digests.PROBES["text_encodings"]).fetchone():
            where = f"bundle = ? AND number IN {EACH}"
            digests.seal(self.connection, "text_encodings", where, (bundle, each(codes)))

    def remove(self, id: str) -> bool:
        """End the life of an id's live row at this generation; False where there is none."""
        changed = self.connection.execute(
            "UPDATE images SET removed = ? WHERE id = ? AND removed IS NULL", (self.generation, id)
        )
        self.rows += changed.rowcount
        return changed.rowcount > 0

    def set(self, key: str, value: str) -> None:
        """Write a value of the settings table."""
        self.connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value))


def alive(generation: int | None = None) -> tuple[str, tuple[int, ...]]:
    """The SQL condition for rows that live now or as of a generation, with its values."""
    if generation is None:
        return "images.removed IS NULL", ()
    return "images.added <= ? AND (images.removed IS NULL OR images.removed > ?)", (generation, generation)
