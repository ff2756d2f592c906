"""Compaction drops what only searches of the past could see; nothing behind a link is deleted."""

import sqlite3

import pytest

from medlike import Query
from medlike.errors import ArchiveError, QueryError


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


def test_compact_does_not_wait_for_readers(archive, pictures):
    archive.add(pictures(3))
    archive.remove([archive._store.images([1])[1].id])
    reader = sqlite3.connect(archive._folder.store, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM images").fetchone() == (3,)
    assert archive.compact().rows == 1
    assert reader.execute("SELECT count(*) FROM images").fetchone() == (3,)
    reader.close()
    assert len(archive) == 2 and archive.verify() == []


def test_compact_forgets_the_past(archive, pictures):
    folder = pictures(4)
    archive.add(folder, pixels="copy")
    result = archive.search(Query(image=folder / "0000.png"))
    archive.remove([hit.id for hit in result.hits[:2]])
    size = sum(archive.info()["bytes"].values())
    report = archive.compact()
    assert (report.rows, report.files) == (2, 2) and archive.verify() == []
    assert sum(archive.info()["bytes"].values()) < size
    with pytest.raises(QueryError, match="cannot be searched"):
        archive.repeat(result.receipt)
    assert len(archive.search(Query(image=folder / "0000.png")).hits) == 2


def test_a_folder_of_the_index_behind_a_link_is_not_emptied(archive, tmp_path, picture):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    (place,) = archive._folder.index.iterdir()
    elsewhere = tmp_path / "elsewhere"
    place.rename(elsewhere)
    (elsewhere / "mine").mkdir()
    place.symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match="symbolic link"):
        archive.reindex()
    assert (elsewhere / "mine").is_dir() and (elsewhere / "index.json").is_file()
