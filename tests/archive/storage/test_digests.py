"""A row that a disk changed is an error when it is read, and a problem for verify; a row without digest is not."""

import sqlite3
from contextlib import closing

import pytest

from medlike import Archive, Query
from medlike.archive.storage.database import row_digest
from medlike.archive.storage.digests import TABLES, damaged
from medlike.errors import ArchiveError

CHANGES = {
    "metadata": "UPDATE images SET metadata = replace(metadata, 'hand', 'land')",
    "width": "UPDATE images SET width = width + 1",
    "label": "UPDATE images SET label = 'land'",
    "pixels": "UPDATE images SET preview = pixels",
    "content": "UPDATE encodings SET content = zeroblob(length(content))",
    "verdict": "UPDATE encodings SET outlier_p = 0.5",
    "text": "UPDATE texts SET text = 'bones'",
}


@pytest.fixture
def filled(archive, tmp_path, pictures):
    pictures(3)
    lines = [f"pictures/000{at}.png,hand,clear lungs number{at}" for at in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,text", *lines]) + "\n")
    archive.add(tmp_path / "m.csv")
    archive.reindex()
    assert archive.verify() == []
    return archive


def changed(archive, statement):
    """Another process changes the rows without their digests, as a disk does."""
    archive.close()
    with closing(sqlite3.connect(archive._folder.store, isolation_level=None)) as other:
        other.execute(statement)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_row_is_refused_when_it_is_read(filled, encoder, change):
    ids = filled.ids()
    changed(filled, CHANGES[change])
    with Archive.open(filled.path, encoder=encoder) as again:
        assert any("is damaged: restore the archive from a backup" in str(problem) for problem in again.verify())
        with pytest.raises(ArchiveError, match=r"row \d+ of \w+ in .* is damaged"):
            again.search(Query(id=ids[0]))


@pytest.mark.parametrize("change", ["label", "content"])
def test_an_index_is_not_made_of_changed_rows(filled, encoder, change):
    changed(filled, CHANGES[change])
    with Archive.open(filled.path, encoder=encoder) as again, pytest.raises(ArchiveError, match="damaged"):
        again.reindex()


def test_rows_without_digests_go_unchecked_until_they_are_written_anew(filled, encoder, pictures):
    ids = filled.ids()
    filled.close()
    with closing(sqlite3.connect(filled._folder.store, isolation_level=None)) as earlier:
        for table in TABLES:
            earlier.execute(f"ALTER TABLE {table} DROP COLUMN digest")
        earlier.execute(CHANGES["width"])
    with Archive.open(filled.path, encoder=encoder) as again:
        assert len(again.search(Query(id=ids[0])).hits) == 2
        again.add(pictures(4))
        assert len(again.search(Query(id=ids[0])).hits) == 3
        counts = dict(again._store.query("SELECT digest IS NULL, count(*) FROM images GROUP BY 1"))
        assert counts == {1: 3, 0: 4}  # of those, three replace the unchecked ones: their texts are others


def test_a_removal_and_another_bundle_leave_the_digests_true(filled, tmp_path, make_tiny_bundle):
    filled.remove(filled.ids()[0])
    filled.reindex(make_tiny_bundle(tmp_path / "other", seed=5))
    assert all(not damaged(filled._store, table) for table in TABLES)
    assert not filled._store.number("SELECT count(*) FROM images WHERE digest IS NULL")


def test_a_new_bundle_does_not_make_a_damaged_row_sound(filled):
    from medlike.archive.intake.reindex import settle

    filled._store.connection.execute("UPDATE images SET label = 'land' WHERE row = 2")
    settle(filled._store, filled._folder.bundle.digest, [])
    assert damaged(filled._store, "images") == [2]


def test_the_digest_tells_values_and_types_apart():
    rows = [(1, "a"), ("1", "a"), (1.0, "a"), (1, b"a"), (1, None), (1, "ä"), (b"1a", 2), (b"1", b"a"), (b"", b"1a")]
    assert len({row_digest(*row) for row in rows}) == len(rows)
    assert row_digest(1, "ä", None, 0.5, b"\xff").hex() == "f1254d94038fafba03e93f8262e6efe3"


def digests_computed(archive, work):
    """Call `work` and return how many statements computed digests."""
    statements = []
    archive._store.connection.set_trace_callback(statements.append)
    try:
        work()
    finally:
        archive._store.connection.set_trace_callback(None)
    return sum("row_digest(" in statement for statement in statements)


def test_a_row_is_compared_with_its_digest_once_in_a_process(filled):
    id = filled.ids()[0]
    filled.close()
    assert digests_computed(filled, lambda: filled.search(Query(id=id))) > 0
    assert digests_computed(filled, lambda: filled.search(Query(id=id))) == 0


def test_a_row_that_is_written_anew_is_compared_again(filled):
    id = filled.ids()[0]
    filled.search(Query(id=id))
    with closing(sqlite3.connect(filled._folder.store, isolation_level=None)) as other:
        other.execute("UPDATE images SET width = width + 1, digest = randomblob(16) WHERE row = 2")
    with pytest.raises(ArchiveError, match=r"row 2 of images in .* is damaged"):
        filled.search(Query(id=id))


def test_the_memory_of_compared_rows_is_bounded(filled, monkeypatch):
    monkeypatch.setattr("medlike.archive.storage.store.CHECKED", 2)
    for id in filled.ids():
        filled.search(Query(id=id))
        assert len(filled._store._checked) < 10
    assert filled.verify() == []
