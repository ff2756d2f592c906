"""The truth of an archive: one SQLite file with metadata, texts, encodings and generations.

WAL with synchronous=FULL: a commit that returned has been fsynced. secure_delete zeroes what is deleted.
Every commit raises the generation; a row lives from its `added` to its `removed` generation, so that a
search can be repeated as of any generation that is kept.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage.database import Database, storage_errors, transaction
from medlike.archive.storage.rows import EncodingRow, ImageRow, NewImage, Shown
from medlike.archive.storage.schema import HAS_OUTLIER_FACTS, SCHEMA, upgrade
from medlike.errors import ArchiveError
from medlike.types import Json

FILE = "store.sqlite"
TEXTS = 64  # texts that an image may have

_IMAGE_COLUMNS = tuple(ImageRow.__dataclass_fields__)
_SELECT_IMAGE = ", ".join(f"images.{name}" for name in _IMAGE_COLUMNS)
_SELECT_BARE = ", ".join(f"images.{name}" for name in _IMAGE_COLUMNS[:-2])
_ENCODING_COLUMNS = tuple(EncodingRow.__dataclass_fields__)
_SELECT_ENCODING = ", ".join(f'encodings."{name}"' for name in _ENCODING_COLUMNS)
# The store of an earlier medlike has no outlier_facts until it is next written to; an index needs none.
_SELECT_FIRST = ", ".join(f'encodings."{name}"' for name in _ENCODING_COLUMNS if name != "outlier_facts")
_WRITTEN = tuple(name for name in _IMAGE_COLUMNS if name not in ("row", "added", "removed"))


class Store:
    """An open store. Safe to use from many threads and after a fork."""

    def __init__(self, path: Path) -> None:
        try:
            present = path.is_file()
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read ({error.strerror}): check permissions") from error
        if not present:
            raise ArchiveError(f"{path} is missing: restore the archive from a backup")
        self.path = path
        self._database = Database(path)

    @classmethod
    def create(cls, path: Path) -> "Store":
        """Make an empty store at generation 0. `path` must not exist."""
        if path.exists():
            raise ArchiveError(f"{path} exists already")
        # Log and shared memory beside it have the permissions of the file that is there.
        os.close(durable.create(path))
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")
            connection.execute("INSERT INTO generations VALUES (0, ?, 'create', 0)", (time.time(),))
        finally:
            connection.close()
        return cls(path)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""
        return self._database.connection

    def close(self) -> None:
        """Close every connection. The store can be used again: it reconnects."""
        self._database.close()

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
        """The newest published generation; within a snapshot, the snapshot's."""
        return self._newest(self.connection)

    def published(self) -> int:
        """The newest published generation, whatever this thread's snapshot sees."""
        with closing(self._database.opened()) as connection:
            return self._newest(connection)

    def _newest(self, connection: sqlite3.Connection) -> int:
        with storage_errors(self.path):
            return int(connection.execute("SELECT max(generation) FROM generations").fetchone()[0])

    def oldest_generation(self) -> int:
        """The oldest generation as of which a search can still be repeated (compact raises it)."""
        return int(self.setting("oldest_generation", "0"))

    def setting(self, key: str, default: str) -> str:
        """A value of the settings table, or the default."""
        with storage_errors(self.path):
            found = self.connection.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return found[0] if found else default

    def count(self, generation: int | None = None) -> int:
        """How many images are live, now or as of a generation."""
        where, values = alive(generation)
        with storage_errors(self.path):
            found = self.connection.execute(f"SELECT count(*) FROM images WHERE {where}", values).fetchone()
        return int(found[0])

    def find(self, id: str, generation: int | None = None) -> ImageRow | None:
        """The live image of an id, now or as of a generation."""
        where, values = alive(generation)
        found = self._images(f"WHERE images.id = ? AND {where}", (id, *values))
        return next(iter(found), None)

    def images(self, rows: Sequence[int]) -> dict[int, ImageRow]:
        """Row number -> image for the rows that exist, removed ones included."""
        found: dict[int, ImageRow] = {}
        for start in range(0, len(rows), 500):
            part = [int(row) for row in rows[start : start + 500]]
            marks = ",".join("?" * len(part))
            for image in self._images(f"WHERE images.row IN ({marks})", part):
                found[image.row] = image
        return found

    def shown(self, rows: Sequence[int]) -> dict[int, Shown]:
        """Row number -> what a hit says of the image, for the rows that exist, removed ones included."""
        found: dict[int, Shown] = {}
        for start in range(0, len(rows), 500):
            part = rows[start : start + 500]
            sql = f"SELECT row, id, width, height, metadata FROM images WHERE row IN ({','.join('?' * len(part))})"
            with storage_errors(self.path):
                held = self.connection.execute(sql, tuple(part)).fetchall()
                # One text of JSON is read in half the time of its pieces.
                metadata = strict_json.loads(f"[{','.join(row[4] for row in held)}]", depth=strict_json.DEPTH + 1)
            for (row, id, width, height, _), facts in zip(held, metadata, strict=True):
                found[row] = Shown(id, width, height, facts)
        return found

    def select(self, where: str, values: Sequence[object] = ()) -> list[int]:
        """Row numbers that satisfy an SQL condition on `images`, ascending; values are bound."""
        with storage_errors(self.path):
            sql = f"SELECT row FROM images WHERE {where} ORDER BY row"
            return [found[0] for found in self.connection.execute(sql, tuple(values))]

    def encoding(self, row: int, bundle: str) -> EncodingRow | None:
        """The encoding of a row under a bundle (its digest)."""
        with storage_errors(self.path):
            whole = self.connection.execute(HAS_OUTLIER_FACTS).fetchone()
            columns = _SELECT_ENCODING if whole else _SELECT_FIRST
            sql = f"SELECT {columns} FROM encodings WHERE row = ? AND bundle = ?"
            found = self.connection.execute(sql, (row, bundle)).fetchone()
        return EncodingRow(*found) if found else None

    def texts(self, row: int) -> dict[str, str]:
        """Kind -> text of a row."""
        return self.texts_of([row]).get(row, {})

    def texts_of(self, rows: Sequence[int]) -> dict[int, dict[str, str]]:
        """Row -> kind -> text, for the rows that have texts."""
        found: dict[int, dict[str, str]] = {}
        for start in range(0, len(rows), 500):
            part = [int(row) for row in rows[start : start + 500]]
            sql = f"SELECT row, kind, text FROM texts WHERE row IN ({','.join('?' * len(part))}) ORDER BY number"
            with storage_errors(self.path):
                for row, kind, text in self.connection.execute(sql, part):
                    found.setdefault(row, {})[kind] = text
        return found

    def text(self, number: int) -> tuple[str, str, str] | None:
        """Return (id of the image, kind, text) of a text by its number."""
        sql = "SELECT images.id, texts.kind, text FROM texts JOIN images ON images.row = texts.row WHERE number = ?"
        with storage_errors(self.path):
            found: tuple[str, str, str] | None = self.connection.execute(sql, (number,)).fetchone()
        return found

    def text_numbers(self, row: int) -> list[int]:
        """The numbers of the texts of a row, ascending."""
        with storage_errors(self.path):
            found = self.connection.execute("SELECT number FROM texts WHERE row = ? ORDER BY number", (row,))
            return [number for (number,) in found]

    def rows(
        self, bundle: str, since: int = -1, until: int | None = None
    ) -> Iterator[tuple[ImageRow, EncodingRow]]:
        """Rows with an encoding under a bundle (digest), added in (since, until], ascending by row number.

        Without outlier_facts. Rows removed since are included, with `removed` set; `facts` and `metadata` are
        left empty (`images` has them). Reads in pages: memory does not grow.
        """
        until = self.generation() if until is None else until
        # By row number, whatever SQLite thinks of the other indexes: a page must not cost a sort of all rows.
        sql = (
            f"SELECT {_SELECT_BARE}, {_SELECT_FIRST} FROM images NOT INDEXED CROSS JOIN encodings "
            "ON encodings.row = images.row AND encodings.bundle = ? "
            "WHERE images.row > ? AND images.added > ? AND images.added <= ? "
            "ORDER BY images.row LIMIT 1000"
        )
        # Rows are numbered in the order of their generations. Not min(row), for which SQLite goes through them all.
        with storage_errors(self.path):
            first = self.connection.execute(
                "SELECT row FROM images WHERE added > ? ORDER BY added, row LIMIT 1", (since,)
            ).fetchone()
        last = first[0] - 1 if first else 0
        cut = len(_IMAGE_COLUMNS) - 2
        while True:
            with storage_errors(self.path):
                page = self.connection.execute(sql, (bundle, last, since, until)).fetchall()
            for found in page:
                image = ImageRow(*found[:cut], facts={}, metadata={})  # type: ignore[misc]
                yield image, EncodingRow(*found[cut:])
            if len(page) < 1000:
                return
            last = page[-1][0]

    def removals(self, since: int = -1, until: int | None = None) -> list[tuple[int, int]]:
        """(row, removed) of the rows removed in (since, until], ascending by row number."""
        until = self.generation() if until is None else until
        sql = "SELECT row, removed FROM images WHERE removed > ? AND removed <= ? ORDER BY row"
        with storage_errors(self.path):
            return self.connection.execute(sql, (since, until)).fetchall()

    def erased(self, generation: int) -> int:
        """How many images that a search as of this generation could have seen were erased since."""
        sql = (
            "SELECT coalesce(sum(count), 0) FROM erasures "
            "WHERE added <= ? AND (removed IS NULL OR removed > ?)"
        )
        with storage_errors(self.path):
            return int(self.connection.execute(sql, (generation, generation)).fetchone()[0])

    def _images(self, rest: str, values: Iterable[object]) -> list[ImageRow]:
        with storage_errors(self.path):
            found = self.connection.execute(f"SELECT {_SELECT_IMAGE} FROM images {rest}", tuple(values))
            return [_image(values) for values in found]

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
        self.encode(row, bundle, image.encoding)
        texts = [(kind, text) for kind, text in image.texts.items() if text]
        # Numbers are never used again, as rows are not: what is derived from a text names it by its number.
        self.connection.executemany(
            "INSERT INTO texts(number, row, kind, text) VALUES (?, ?, ?, ?)",
            [(TEXTS * row + at, row, kind, text) for at, (kind, text) in enumerate(texts[:TEXTS])],
        )
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


def _image(values: Sequence[Json]) -> ImageRow:
    return ImageRow(*values[:-2], strict_json.loads(values[-2]), strict_json.loads(values[-1]))  # type: ignore[call-arg]
