"""Digests of the store's rows: what a disk changes in a row is an error when the row is read, never an answer.

The digest of a row is BLAKE2b of its values, 16 bytes, in the row's own column `digest`. It leaves out `removed`,
which changes. A row that an earlier medlike wrote has none and goes unchecked.
"""

import sqlite3
from collections.abc import Sequence

from medlike.archive.storage.database import ROW_DIGEST

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
    "fits": ("fit", "bundle", "generation", "facts", "arrays"),
}  # fmt: skip
#: Gives a row where the store has digests; that of an earlier medlike gets them at its next write.
HAS_DIGESTS = (
    "SELECT 1 FROM pragma_table_info('texts') texts, pragma_table_info('encodings') encodings"
    " WHERE texts.name = 'digest' AND encodings.name = 'features'"
)


def computed(table: str) -> str:
    """Return the SQL expression of a row's digest."""
    columns = ", ".join(f'{table}."{name}"' for name in TABLES[table])
    plain = f"{ROW_DIGEST}({columns})"
    if table != "encodings":
        return plain
    # A row without features has the digest that it had before the store knew of any.
    return f"CASE WHEN encodings.features IS NULL THEN {plain} ELSE {ROW_DIGEST}({columns}, encodings.features) END"


#: By table, the SQL expression that is 0 if a row is not what was written.
SOUND = {table: f"({table}.digest IS NULL OR {table}.digest = {computed(table)})" for table in TABLES}


def seal(connection: sqlite3.Connection, table: str, where: str, values: Sequence[object]) -> None:
    """Give the rows that satisfy an SQL condition their digests."""
    connection.execute(f"UPDATE {table} SET digest = {computed(table)} WHERE {where}", values)
