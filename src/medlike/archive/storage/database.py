"""SQLite connections as the archive uses them, and its errors as ours."""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from medlike import strict_json
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked
from medlike.types import Json

PAGE = 1000  # rows read at a time
EACH = "(SELECT value FROM json_each(?))"  # the values that `each` packs into one
ROW_DIGEST = "row_digest"  # the function, as SQL knows it on every connection
Values = Sequence[object] | Mapping[str, object]  # what SQL binds


class Database:
    """A SQLite file. Safe to use from many threads and after a fork: each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: WeakSet[_Connection] = WeakSet()
        self._lock = threading.Lock()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode: commits are fsynced, deleted cells are zeroed."""
        current: _Connection | None = getattr(self._local, "current", None)
        if current is None or current.process != os.getpid() or current.outdated(self.path):
            still = _state(self.path) if unwritten(self.path) else None
            current = self._local.current = _Connection(self.opened(), still)
            with self._lock:
                self._all.add(current)
        return current.connection

    def query(self, sql: str, values: Values = ()) -> list[tuple[Json, ...]]:
        """Return the rows that a statement selects; errors of SQLite are raised as those of `storage_errors`."""
        with storage_errors(self.path):
            return self.connection.execute(sql, values).fetchall()

    def first(self, sql: str, values: Values = ()) -> tuple[Json, ...] | None:
        """Return the first row that a statement selects, None if there is none."""
        with storage_errors(self.path):
            row: tuple[Json, ...] | None = self.connection.execute(sql, values).fetchone()
        return row

    def number(self, sql: str, values: Values = ()) -> int:
        """Return the whole number that a statement selects, 0 for NULL or no row."""
        row = self.first(sql, values)
        return int(row[0] or 0) if row else 0

    def pages(
        self, sql: str, values: Mapping[str, object], last: int = 0, size: int = PAGE
    ) -> Iterator[list[tuple[Json, ...]]]:
        """Yield the rows that a statement selects, page by page, so that memory does not grow.

        Args:
            sql: Its first column is a number above `:last` in ascending order, and it ends in `LIMIT :size`.
            values: The other values that it binds, by name.
            last: The number to begin after.
            size: Rows of a page.
        """
        while True:
            page = self.query(sql, {**values, "last": last, "size": size})
            if page:
                yield page
            if len(page) < size:
                return
            last = page[-1][0]

    def opened(self) -> sqlite3.Connection:
        """Open one more connection, which the caller closes."""
        with storage_errors(self.path):
            # check_same_thread is off only so that close() may close every thread's connection.
            connection = sqlite3.connect(
                address(self.path),
                uri=True,
                isolation_level=None,
                timeout=30,
                check_same_thread=False,
            )
            connection.create_function(ROW_DIGEST, -1, row_digest, deterministic=True)
            connection.execute("PRAGMA synchronous=FULL")
            for setting in ("secure_delete=ON", "foreign_keys=ON", "cache_size=-16000"):
                connection.execute(f"PRAGMA {setting}")
        return connection

    def close(self) -> None:
        """Close every connection of this process; one is opened again when it is needed."""
        with self._lock:
            connections, self._all = list(self._all), WeakSet()
        for connection in connections:
            connection.close()
        self._local = threading.local()


class DigestedDatabase(Database):
    """A database with digests of its rows; one that an earlier medlike made may lack them."""

    def __init__(self, path: Path, sound: Mapping[str, str], probe: str) -> None:
        """Open nothing yet.

        Args:
            path: The file.
            sound: By table, the SQL expression that is 0 for a damaged row.
            probe: A statement that gives a row where the tables have digests.
        """
        super().__init__(path)
        self._sound = sound
        self._probe = probe
        self._has_digests = False

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the tables whose rows have digests."""
        return tuple(self._sound)

    @property
    def has_digests(self) -> bool:
        """Return False in a database that an earlier medlike made, until it gets digests."""
        if not self._has_digests:
            self._has_digests = self.first(self._probe) is not None
        return self._has_digests

    def sound(self, table: str) -> str:
        """Return the SQL expression that is 0 for a damaged row of a table; 1 in a database without digests."""
        return self._sound[table] if self.has_digests else "1"


# Connections that this process has from a fork: closing one here would give up the locks of the process it is from.
_inherited: list[sqlite3.Connection] = []


class _Connection:
    """The connection of one thread; it is closed when the thread ends and this is deleted."""

    def __init__(self, connection: sqlite3.Connection, still: tuple[int, ...] | None = None) -> None:
        """still: the state of the file, where it was opened as one that nobody writes to."""
        self.process = os.getpid()
        self.connection = connection
        self.still = still

    def outdated(self, path: Path) -> bool:
        """Return True if a writer has appeared since the file was opened as immutable: reopen it to read the log."""
        return self.still is not None and not self.connection.in_transaction and _state(path) != self.still

    def close(self) -> None:
        if self.process == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)

    __del__ = close


def unwritten(path: Path) -> bool:
    """Return True if this process may not write beside a database, and no other has it open to write."""
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not _log(path).exists()


def address(path: Path) -> str:
    """Return the URI by which SQLite opens a database: immutable if no log can be made beside it and nobody writes."""
    return f"{path.absolute().as_uri()}?{'mode=ro&immutable=1' if unwritten(path) else 'mode=rw'}"


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state(path: Path) -> tuple[int, ...]:
    try:
        state = path.stat()
        return state.st_mtime_ns, state.st_size, _log(path).exists()
    except OSError:
        return ()


def log_emptied(connection: sqlite3.Connection, patience: float) -> bool:
    """Move the log into the database and empty it; return False if readers hold it for longer than some seconds."""
    waits = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute(f"PRAGMA busy_timeout={round(patience * 1000)}")
    try:
        return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout={waits}")


def each(values: Iterable[int] | Iterable[str]) -> str:
    """Return any number of values as the one that SQL binds for `EACH`."""
    return json.dumps([value if isinstance(value, str) else int(value) for value in values])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run one write transaction; it is rolled back if the body or the commit fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, with the next action."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # mistakes of ours
    except strict_json.Unreadable as error:
        raise ArchiveError(f"a value in {path} is damaged ({error}): restore the archive from a backup") from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None) or type(error).__name__
        # A full disk shows as another error where SQLite makes or grows its log or its shared memory.
        if name == "SQLITE_FULL" or (name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and _no_room(path)):
            raise ArchiveFull(f"the disk that holds {path} is full: free space, then run it again") from error
        if name.startswith("SQLITE_BUSY"):
            raise ArchiveLocked(f"{path} is being written by another process: try again later") from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise ArchiveError(f"{path} is damaged ({error}): restore the archive from a backup") from error
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
            raise ArchiveError(f"{path} cannot be opened for use ({error}): check permissions") from error
        raise ArchiveError(f"{path}: {error} ({name}): check the disk") from error


def _no_room(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 2**18


def row_digest(*values: str | int | float | bytes | None) -> bytes:
    """Return the digest of a row's values, in the order of `TABLES`."""
    # ASCII, since what `repr` escapes depends on the Unicode tables of the Python at hand.
    return hashlib.blake2b(ascii(values).encode(), digest_size=16).digest()


def require_sound(path: Path, table: str, row: object, sound: object) -> None:
    """Raise ArchiveError unless a row's `sound` is 1."""
    if sound != 1:
        raise damaged_row(path, table, row)


def damaged_row(path: Path, table: str, row: object) -> ArchiveError:
    """Return the error of a row that is not what was written."""
    return ArchiveError(f"row {row} of {table} in {path} is damaged: restore the archive from a backup")
