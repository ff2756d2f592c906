"""A word index that differs from its texts is refused by a search, and costs no search much."""

import sqlite3

import pytest

from medlike import Archive, Query
from medlike.archive.storage import word_index
from medlike.errors import ArchiveError


@pytest.fixture
def texts(archive, tmp_path, pictures):
    pictures(3)
    lines = [f"pictures/000{at}.png,clear lungs number{at}" for at in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["path,text", *lines]) + "\n")
    archive.add(tmp_path / "m.csv")
    return archive


def damage(archive):
    """Change a text that has no digest, as one that an earlier medlike wrote."""
    with sqlite3.connect(archive._folder.store) as other:
        first = "(SELECT min(number) FROM texts)"
        other.execute(f"UPDATE texts SET text = 'clear bones', digest = NULL WHERE number = {first}")
    other.close()


def test_a_word_index_that_lies_is_refused(texts, encoder):
    assert len(texts.search(Query(text="lungs")).hits) == 3
    damage(texts)
    texts.close()
    with Archive.open(texts.path, encoder=encoder) as again, pytest.raises(ArchiveError, match=r"word index.*differs"):
        again.search(Query(text="lungs"))


def test_it_is_compared_once_in_a_generation(texts, monkeypatch):
    compared = []
    asked = word_index._asked
    monkeypatch.setattr(word_index, "_asked", lambda connection: compared.append(1) or asked(connection))
    for _ in range(3):
        texts.search(Query(text="lungs"))
    assert len(compared) == 1
    monkeypatch.setattr(word_index, "_SHARE", 0)
    texts._indexes.words._check._next = 0.0
    texts.remove(texts.ids()[0])
    texts.search(Query(text="lungs"))
    assert len(compared) == 2


def test_a_search_does_not_wait_for_a_writer_to_compare(texts):
    writer = sqlite3.connect(texts._folder.store, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert len(texts.search(Query(text="lungs")).hits) == 3
    writer.close()


def test_many_texts_are_left_to_verify(texts, monkeypatch):
    monkeypatch.setattr(word_index, "MOST", 2)
    damage(texts)
    assert len(texts.search(Query(text="lungs")).hits) == 3
    assert any("word index" in problem.detail for problem in texts.verify())
