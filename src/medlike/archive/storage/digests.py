"""Digests of the store's rows: what a disk changes in a row is an error when the row is read, never an answer.

The digest of a row is BLAKE2b of its values, 16 bytes, in the row's own column `digest`. It leaves out `removed`,
which changes. A row that an earlier medlike wrote has none and goes unchecked.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from medlike.errors import ArchiveError

FUNCTION = "row_digest"  # as SQL knows it, on every connection that a Database opens
SIZE = 16  # bytes
TABLES = {
    "images": (
        "row", "id", "added", "modality", "region", "label", "sex", "age", "year", "study", "series", "patient",
        "manufacturer", "model", "body_part", "view", "source", "predicted_modality", "width", "height", "frame",
        "frames", "pixels", "kind", "preview", "facts", "metadata",
    ),
    "encodings": (
        "row", "bundle", "code", "content", "cells", "cell_mask", "cross", "cross_embedding", "outlier_score",
        "outlier_p", "modality", "outlier_facts",
    ),
    "texts": ("number", "row", "kind", "text"),
}  # fmt: skip
#: Gives a row where the store has digests; that of an earlier medlike gets them at its next write.
HAS_DIGESTS = "SELECT 1 FROM pragma_table_info('texts') WHERE name = 'digest'"


def row_digest(*values: str | int | float | bytes | None) -> bytes:
    """Return the digest of a row's values, in the order of `TABLES`."""
    # ASCII, since what `repr` escapes depends on the Unicode tables of the Python at hand.
    return hashlib.blake2b(ascii(values).encode(), digest_size=SIZE).digest()


def computed(table: str) -> str:
    """Return the SQL expression of a row's digest."""
    columns = ", ".join(f'{table}."{name}"' for name in TABLES[table])
    return f"{FUNCTION}({columns})"


def sound(table: str) -> str:
    """Return the SQL expression that is 0 if a row is not what was written."""
    return f"({table}.digest IS NULL OR {table}.digest = {computed(table)})"


def require_sound(path: Path, table: str, row: object, sound: object) -> None:
    """Raise ArchiveError unless a row's `sound` is 1."""
    if sound != 1:
        raise ArchiveError(f"row {row} of {table} in {path} is damaged: restore the archive from a backup")


def seal(connection: sqlite3.Connection, table: str, where: str, values: Sequence[object]) -> None:
    """Give the rows that satisfy an SQL condition their digests."""
    connection.execute(f"UPDATE {table} SET digest = {computed(table)} WHERE {where}", values)
