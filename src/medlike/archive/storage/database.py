"""SQLite connections as the archive uses them, and its errors as ours."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from medlike import strict_json
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked


class Database:
    """A SQLite file. Safe to use from many threads and after a fork: each has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: WeakSet[_Held] = WeakSet()
        self._lock = threading.Lock()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode: commits are fsynced, deleted cells are zeroed."""
        held = getattr(self._local, "held", None)
        if held is not None and held.process == os.getpid() and not held.outdated(self.path):
            connection: sqlite3.Connection = held.connection
            return connection
        still = _state(self.path) if unwritten(self.path) else None
        connection = self.opened()
        held = self._local.held = _Held(connection, still)
        with self._lock:
            self._all.add(held)
        return connection

    def opened(self) -> sqlite3.Connection:
        """A connection more, which the caller closes."""
        with storage_errors(self.path):
            # check_same_thread is off only so that close() may close every thread's connection.
            connection = sqlite3.connect(
                address(self.path),
                uri=True,
                isolation_level=None,
                timeout=30,
                check_same_thread=False,
            )
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA cache_size=-16000")
        return connection

    def close(self) -> None:
        """Close every connection of this process; one is opened again when it is needed."""
        with self._lock:
            everyone, self._all = list(self._all), WeakSet()
        for held in everyone:
            held.close()
        self._local = threading.local()


# Connections that this process has from a fork: closing one here would give up the locks of the process it is from.
_inherited: list[sqlite3.Connection] = []


class _Held:
    """The connection of one thread; it is closed when the thread ends, which lets go of this."""

    def __init__(self, connection: sqlite3.Connection, still: tuple[int, ...] | None = None) -> None:
        """still: the state of the file, where it was opened as one that nobody writes to."""
        self.process = os.getpid()
        self.connection = connection
        self.still = still

    def outdated(self, path: Path) -> bool:
        """Whether somebody who may write has begun to: what they commit is looked for beside the file."""
        return self.still is not None and not self.connection.in_transaction and _state(path) != self.still

    def close(self) -> None:
        if self.process == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)

    __del__ = close


def unwritten(path: Path) -> bool:
    """Whether this process may not write beside a database and nobody else has it open to write."""
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not _log(path).exists()


def address(path: Path) -> str:
    """What SQLite opens a database by: to read it needs to make the log's files beside it, unless nobody writes."""
    return f"{path.absolute().as_uri()}?{'mode=ro&immutable=1' if unwritten(path) else 'mode=rw'}"


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
        return found.st_mtime_ns, found.st_size, _log(path).exists()
    except OSError:
        return ()


def log_emptied(connection: sqlite3.Connection, patience: float) -> bool:
    """Move the log into the database and cut it to nothing; false where readers hold it for longer (seconds)."""
    waits = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute(f"PRAGMA busy_timeout={round(patience * 1000)}")
    try:
        return not connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        connection.execute(f"PRAGMA busy_timeout={waits}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One write transaction; rolled back when the body or the commit fails."""
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
        # A full disk shows as an input/output error where SQLite grows its shared memory.
        if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _no_room(path)):
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
