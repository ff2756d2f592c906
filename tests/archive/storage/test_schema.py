"""The store of an earlier medlike is upgraded at its next write."""

import sqlite3
from contextlib import closing

from medlike import Archive, Query
from medlike.archive.storage.digests import TABLES


def test_an_archive_without_stored_components_says_so_until_it_is_written_to(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    by_image = archive.search(Query(image=folder / "0001.png"))
    old = by_image.hits[0].id
    archive.close()
    with closing(sqlite3.connect(archive._folder.store)) as earlier:
        earlier.execute("ALTER TABLE encodings DROP COLUMN outlier_facts")
        for table in TABLES:
            earlier.execute(f"ALTER TABLE {table} DROP COLUMN digest")
    with Archive.open(archive.path) as reader:
        found = reader.search(Query(id=old)).outlier
        assert found.pop("note").startswith("indexed by an earlier medlike")
        assert found == {**by_image.outlier, "components": {}, "modality": None, "threshold": 0.03}
        archive.add(pictures(3))
        assert reader.search(Query(id=old)).outlier["components"] == {}
        new = reader.search(Query(image=folder / "0002.png"))
        assert reader.search(Query(id=new.hits[0].id)).outlier == new.outlier and reader.verify() == []
