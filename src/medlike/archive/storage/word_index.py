"""Whether the word index agrees with the texts it was made of, as SQLite's FTS5 finds by comparing them."""

import sqlite3
import time
from contextlib import closing

from medlike.archive.storage.database import storage_errors, unwritten
from medlike.archive.storage.store import Store
from medlike.errors import ArchiveError

MOST = 20_000  # texts that a search checks, about a third of a second; `verify` checks any number
_SHARE = 100  # a check is not repeated before so many times its own duration have passed
_COMPARE = "INSERT INTO words(words, rank) VALUES ('integrity-check', 1)"


def difference(store: Store) -> str:
    """Return what FTS5 finds wrong with the word index, "" if it agrees with the texts. Changes nothing."""
    with storage_errors(store.path):
        # It answers by failing. Where the store may not be written to, a temporary copy is asked.
        if not unwritten(store.path):
            return _asked(store.connection)
        with closing(sqlite3.connect("")) as copy:
            store.connection.backup(copy)
            return _asked(copy)


class WordCheck:
    """Refuses a damaged word index: once in a process and generation, as far as that costs little."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._generation = -1
        self._next = 0.0  # seconds of the clock

    def require_sound(self) -> None:
        """Raise ArchiveError if the word index differs from the texts."""
        generation, began = self.store.generation(), time.monotonic()
        if generation == self._generation or began < self._next or unwritten(self.store.path):
            return
        if self.store.number("SELECT count(*) FROM (SELECT 1 FROM texts LIMIT ?)", (MOST + 1,)) > MOST:
            return
        with storage_errors(self.store.path), closing(self.store.opened()) as connection:
            # A connection of its own: the search reads within a snapshot, and a writer must not be waited for.
            connection.execute("PRAGMA busy_timeout=0")
            try:
                problem = _asked(connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                    return
                raise
        if problem:
            raise ArchiveError(
                f"the word index of {self.store.path} differs from the texts ({problem}): run `medlike verify`; "
                "where only the word index is damaged, `medlike compact` makes it anew"
            )
        self._generation = generation
        self._next = time.monotonic() + _SHARE * (time.monotonic() - began)


def _asked(connection: sqlite3.Connection) -> str:
    try:
        connection.execute(_COMPARE)
    except sqlite3.DatabaseError as error:
        if not error.sqlite_errorname.startswith("SQLITE_CORRUPT"):
            raise
        return str(error)
    return ""
