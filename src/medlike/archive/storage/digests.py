"""Digests of rows, in store and link table: a row that a disk changed is an error when it is read, never an answer.

The digest of a row is BLAKE2b of its values, 16 bytes, in the row's own column `digest`. It leaves out `removed`,
which changes. A row that an earlier medlike wrote has none and goes unchecked until `medlike upgrade` gives it one.
"""

import sqlite3
from collections.abc import Callable, Sequence

from medlike.archive.storage.database import PAGE, ROW_DIGEST, DigestedDatabase, storage_errors, transaction

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
LINK_TABLES = {
    "links": ("id", "path", "frame", "identifiers"),
    "files": ("path", "state", "facts"),
    "file_ids": ("path", "id"),
}
#: By table, the columns that name a row.
KEYS = {
    "images": ("row",), "encodings": ("row", "bundle"), "texts": ("number",), "fits": ("fit",),
    "links": ("id",), "files": ("path",), "file_ids": ("path", "id"),
}  # fmt: skip
_COLUMNS = TABLES | LINK_TABLES
#: Gives a row where the store has digests; that of an earlier medlike gets them at its next write.
HAS_DIGESTS = (
    "SELECT 1 FROM pragma_table_info('texts') texts, pragma_table_info('encodings') encodings"
    " WHERE texts.name = 'digest' AND encodings.name = 'features'"
)


def computed(table: str) -> str:
    """Return the SQL expression of a row's digest."""
    columns = ", ".join(f'{table}."{name}"' for name in _COLUMNS[table])
    plain = f"{ROW_DIGEST}({columns})"
    if table != "encodings":
        return plain
    # A row without features has the digest that it had before the store knew of any.
    return f"CASE WHEN encodings.features IS NULL THEN {plain} ELSE {ROW_DIGEST}({columns}, encodings.features) END"


#: Gives a row where the link table has digests; that of an earlier medlike gets them by `medlike upgrade`.
LINKS_HAVE_DIGESTS = "SELECT 1 FROM pragma_table_info('links') WHERE name = 'digest'"
#: By table, the SQL expression that is 0 if a row is not what was written. SQLite computes both sides of an OR.
SOUND = {
    table: f"(CASE WHEN {table}.digest IS NULL THEN 1 ELSE {table}.digest = {computed(table)} END)"
    for table in _COLUMNS
}


def seal(connection: sqlite3.Connection, table: str, where: str, values: Sequence[object]) -> None:
    """Give the rows that satisfy an SQL condition their digests."""
    connection.execute(f"UPDATE {table} SET digest = {computed(table)} WHERE {where}", values)


def damaged(database: DigestedDatabase, table: str) -> list[int | str]:
    """Return the rows of a table that are not what was written, each by the first column that names it."""
    if not database.has_digests:
        return []
    return [row for (row,) in database.query(f"SELECT {KEYS[table][0]} FROM {table} WHERE NOT {SOUND[table]}")]


def unchecked(database: DigestedDatabase) -> dict[str, int]:
    """Return how many rows of each table have no digest, for the tables with such rows."""
    where = "digest IS NULL" if database.has_digests else "1"
    present = {name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    names = [table for table in database.tables if table in present]
    counts = {table: database.number(f"SELECT count(*) FROM {table} WHERE {where}") for table in names}
    return {table: count for table, count in counts.items() if count}


def seal_all(database: DigestedDatabase, table: str, progress: Callable[[int], None]) -> None:
    """Give each row of a table its digest where it has none, in commits that raise no generation.

    Args:
        database: It has the columns of the digests.
        table: One of its tables.
        progress: Called with the number of rows of each commit.
    """
    keys = ", ".join(KEYS[table])
    marks = ", ".join("?" * len(KEYS[table]))
    after: tuple[object, ...] = ()
    while True:
        where = f"digest IS NULL AND ({keys}) > ({marks})" if after else "digest IS NULL"
        page = database.query(f"SELECT {keys} FROM {table} WHERE {where} ORDER BY {keys} LIMIT {PAGE}", after)
        if not page:
            return
        with storage_errors(database.path), transaction(database.connection):
            sql = f"UPDATE {table} SET digest = {computed(table)} WHERE ({keys}) = ({marks})"
            database.connection.executemany(sql, page)
        progress(len(page))
        after = page[-1]
