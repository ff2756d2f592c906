"""The tables of the store. What came after the first format is added to an archive when it is next written to.

FTS5's own secure-delete is left off: a word index written with it cannot be read by SQLite before 3.42, and an
erasure builds the word index and the file anew anyhow.
"""

import sqlite3

from medlike.archive.storage.database import transaction
from medlike.archive.storage.digests import TABLES

_FIRST = """
CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generations(generation INTEGER PRIMARY KEY, time REAL NOT NULL, action TEXT NOT NULL,
                         rows INTEGER NOT NULL);
CREATE TABLE images(
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    added INTEGER NOT NULL,
    removed INTEGER,
    modality TEXT, region TEXT, label TEXT, sex TEXT, age REAL, year REAL,
    study TEXT, series TEXT, patient TEXT,                   -- keyed hashes
    manufacturer TEXT, model TEXT, body_part TEXT, view TEXT, source TEXT,
    predicted_modality TEXT,
    width INTEGER NOT NULL, height INTEGER NOT NULL, frame INTEGER NOT NULL, frames INTEGER NOT NULL,
    pixels TEXT NOT NULL,                                    -- digest of the decoded pixels
    kind TEXT NOT NULL CHECK (kind IN ('copy', 'reference')),
    preview TEXT,                                            -- sha256 of the preview's file
    facts TEXT NOT NULL,                                     -- JSON: spacing, photometric facts, boxes
    metadata TEXT NOT NULL,                                  -- JSON: every searchable field
    digest BLOB                                              -- of the row, as digests.py computes it
);
CREATE UNIQUE INDEX live_ids ON images(id) WHERE removed IS NULL;
CREATE INDEX ids ON images(id);
CREATE INDEX added_generations ON images(added);
CREATE INDEX removed_generations ON images(removed) WHERE removed IS NOT NULL;
CREATE INDEX pixel_digests ON images(pixels);
CREATE INDEX preview_digests ON images(preview) WHERE preview IS NOT NULL;
CREATE TABLE encodings(
    row INTEGER NOT NULL REFERENCES images(row) ON DELETE CASCADE,
    bundle TEXT NOT NULL,                                    -- digest
    code BLOB NOT NULL, content BLOB NOT NULL,
    cells BLOB, cell_mask BLOB, "cross" BLOB, cross_embedding BLOB,
    outlier_score REAL, outlier_p REAL, modality TEXT,       -- as the bundle predicts it
    outlier_facts TEXT,                                      -- JSON: components, threshold, modality
    features BLOB,                                           -- int8 [F]: what a verdict is computed from
    digest BLOB,
    PRIMARY KEY (row, bundle)
);
CREATE TABLE texts(number INTEGER PRIMARY KEY, row INTEGER NOT NULL REFERENCES images(row) ON DELETE CASCADE,
                   kind TEXT NOT NULL, text TEXT NOT NULL, digest BLOB);
CREATE INDEX text_rows ON texts(row);
CREATE VIRTUAL TABLE words USING fts5(text, content='texts', content_rowid='number');
CREATE TRIGGER text_added AFTER INSERT ON texts BEGIN
    INSERT INTO words(rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER text_deleted AFTER DELETE ON texts BEGIN
    INSERT INTO words(words, rowid, text) VALUES ('delete', old.number, old.text);
END;
CREATE TABLE erasures(added INTEGER NOT NULL, removed INTEGER, count INTEGER NOT NULL);
CREATE TABLE erasing(row INTEGER PRIMARY KEY);               -- erasures that were begun and not finished
"""

_TEXT_ENCODINGS = """
CREATE TABLE IF NOT EXISTS text_encodings(
    number INTEGER NOT NULL REFERENCES texts(number) ON DELETE CASCADE,
    bundle TEXT NOT NULL, code BLOB NOT NULL, embedding BLOB NOT NULL,
    PRIMARY KEY (number, bundle)) WITHOUT ROWID;
"""

_FITS = """
CREATE TABLE IF NOT EXISTS fits(
    fit TEXT PRIMARY KEY,                                    -- its digest
    bundle TEXT NOT NULL, generation INTEGER NOT NULL,
    facts TEXT NOT NULL,                                     -- JSON
    arrays BLOB NOT NULL,
    digest BLOB                                              -- of the row
);
"""

SCHEMA = _FIRST + _TEXT_ENCODINGS + _FITS

# What came after the first format, in the order it came: table, column, type.
_COLUMNS = (
    ("encodings", "outlier_facts", "TEXT"),
    *((table, "digest", "BLOB") for table in TABLES),
    ("encodings", "features", "BLOB"),
)


def upgrade(connection: sqlite3.Connection) -> None:
    """Add the tables and columns that the store of an earlier medlike lacks, in one step."""
    if not _missing_tables(connection) and not _missing_columns(connection):
        return
    with transaction(connection):
        for sql in _missing_tables(connection):
            connection.execute(sql)
        for table, column, kind in _missing_columns(connection):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _missing_tables(connection: sqlite3.Connection) -> list[str]:
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [sql for name, sql in (("text_encodings", _TEXT_ENCODINGS), ("fits", _FITS)) if name not in names]


def _missing_columns(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    sql = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
    return [column for column in _COLUMNS if connection.execute(sql, column[:2]).fetchone() is None]
