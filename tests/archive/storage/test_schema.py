"""The store of an earlier medlike is upgraded at its next write."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from medlike import Archive, Query
from medlike.archive.storage.digests import TABLES, damaged, seal
from medlike.errors import ArchiveError


def test_an_archive_without_stored_components_says_so_until_it_is_written_to(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    by_image = archive.search(Query(image=folder / "0001.png"))
    old = by_image.hits[0].id
    archive.close()
    with closing(sqlite3.connect(archive._folder.store)) as earlier:
        earlier.execute("ALTER TABLE encodings DROP COLUMN outlier_facts")
        earlier.execute("ALTER TABLE encodings DROP COLUMN features")
        earlier.execute("DROP TABLE fits")
        for table in TABLES.keys() - {"fits"}:
            earlier.execute(f"ALTER TABLE {table} DROP COLUMN digest")
    with Archive.open(archive.path) as reader:
        found = reader.search(Query(id=old)).outlier
        assert found.pop("note").startswith("indexed by an earlier medlike")
        assert found == {**by_image.outlier, "components": {}, "modality": None, "threshold": 0.03}
        archive.add(pictures(3))
        assert reader.search(Query(id=old)).outlier["components"] == {}
        new = reader.search(Query(image=folder / "0002.png"))
        assert reader.search(Query(id=new.hits[0].id)).outlier == new.outlier and reader.verify() == []


def test_a_store_with_digests_and_without_features_keeps_its_digests(archive, pictures):
    archive.add(pictures(2))
    archive.close()
    with closing(sqlite3.connect(archive._folder.store)) as earlier:
        earlier.execute("ALTER TABLE encodings DROP COLUMN features")
    with Archive.open(archive.path) as reader:
        assert len(reader.search(Query(id=reader.ids()[0])).hits) == 1
        archive.add(pictures(3))
        assert not archive._store.number("SELECT count(*) FROM encodings WHERE digest IS NULL")
        assert not damaged(reader._store, "encodings") and not damaged(reader._store, "fits")


def test_features_and_fits_are_part_of_the_digests(archive, pictures):
    archive.add(pictures(2))
    bundle = archive._folder.bundle.digest
    with archive._store.commit("test") as commit:
        encoding = archive._store.encoding(1, bundle)
        commit.encode(1, bundle, replace(encoding, features=b"\1\2"))
        commit.connection.execute("INSERT INTO fits VALUES ('f', 'b', 1, '{}', x'00', NULL)")
        seal(commit.connection, "fits", "fit = ?", ("f",))
    assert archive._store.encoding(1, bundle) == replace(encoding, features=b"\1\2")
    assert not damaged(archive._store, "encodings") and not damaged(archive._store, "fits")
    with closing(sqlite3.connect(archive._folder.store, isolation_level=None)) as other:
        other.execute("UPDATE fits SET arrays = x'01'")
        for changed in ("x'0103'", "NULL"):
            other.execute(f"UPDATE encodings SET features = {changed} WHERE row = 1")
            with pytest.raises(ArchiveError, match=r"row 1 of encodings in .* is damaged"):
                archive._store.encoding(1, bundle)
    assert damaged(archive._store, "encodings") == [1] and damaged(archive._store, "fits") == ["f"]
