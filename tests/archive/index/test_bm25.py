"""BM25 as FTS5 computes it, as of any generation; nothing in a query is an operator."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike import Query
from medlike.archive.index import bm25 as words_module
from medlike.archive.index import index as index_module
from medlike.archive.index.bm25 import terms
from medlike.archive.index.candidates import Field

VOCABULARY = ["effusion", "pleural", "left", "normal", "chest", "head", "nodule", "no"]
RELAXED = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(population, texts):
    """Images with these texts (None: without one), in one generation; their ids."""
    ids = population.add(len(texts), modality=["CT" if at % 2 else "MR" for at in range(len(texts))])
    with population.store.commit("add") as commit:
        for id, text in zip(ids, texts, strict=True):
            if text is not None:
                row = population.rows[id]["row"]
                sql = "INSERT INTO texts(number, row, kind, text) VALUES (?, ?, 'text', ?)"
                commit.connection.execute(sql, (64 * row, row, text))
    # The texts came a generation after their images; a rebuild takes them up.
    population.archive._indexes.texts.rebuild()
    return ids


def best(population, wanted, k=1000):
    archive = population.archive
    fields = [Field.of(part, None) for part in archive._indexes.texts.view().parts]
    found = archive._indexes.words.best(fields, wanted, k)
    return {
        archive._store.images([int(fields[part].part.segment.images[at])]).popitem()[1].id: float(score)
        for part, at, score in zip(found.part, found.position, found.similarity, strict=True)
    }


def fts5(population, wanted):
    asked = " OR ".join(f'"{term}"' for term in wanted)
    sql = (
        "SELECT images.id, -bm25(words) FROM words JOIN texts ON texts.number = words.rowid "
        "JOIN images ON images.row = texts.row WHERE words MATCH ?"
    )
    return dict(population.store.connection.execute(sql, (asked,)).fetchall())


@RELAXED
@given(
    texts=st.lists(st.one_of(st.none(), st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=12)), min_size=1,
                   max_size=30),
    wanted=st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=4, unique=True),
)  # fmt: skip
def test_scores_are_those_of_fts5(population, texts, wanted):
    population.store.connection.execute("DELETE FROM images")
    with population.store.commit("compact"):
        pass
    population.rows.clear()
    write(population, [None if text is None else " ".join(text) for text in texts])
    expected = fts5(population, wanted)
    found = best(population, wanted)
    assert set(found) == set(expected)
    assert all(np.isclose(found[id], expected[id], rtol=1e-5) for id in expected)


def test_postings_grow_with_the_archive(worded, captioned, monkeypatch):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 6)
    only = {"weights": {"texts": 0, "pictures": 0}, "k": 100}
    assert len(worded.search(Query(text="effusion upright"), **only)) == 4
    folder = captioned(30, name="more").parent
    for file in folder.glob("000*.png"):
        file.unlink()
    worded.add(folder / "manifest.csv")
    grown = worded.search(Query(text="effusion upright"), **only)
    worded._indexes.words._known.clear()
    worded._indexes.words._placed.clear()
    anew = worded.search(Query(text="effusion upright"), **only)
    assert len(grown) == 12 and [hit.as_dict() for hit in grown] == [hit.as_dict() for hit in anew]
    assert worded.verify() == []


def test_the_past_is_answered_as_it_was(worded, captioned):
    before = worded.search(Query(text="effusion chest"), k=20)
    generation = worded._store.generation()
    worded.remove(before[0].id)
    folder = captioned(25, name="later", seed=7).parent
    worded.add(folder / "manifest.csv")
    assert [hit.id for hit in worded.search(Query(text="effusion chest"), k=20)] != [hit.id for hit in before]
    again = worded.repeat(before.receipt)
    assert [hit.as_dict() for hit in again] == [hit.as_dict() for hit in before] and again.warnings == ()
    as_of = worded.search(Query(text="effusion chest"), k=20, generation=generation)
    assert [hit.as_dict() for hit in as_of] == [hit.as_dict() for hit in before]


@pytest.mark.parametrize(
    "text",
    ["effusion AND", "NOT effusion", '"effusion', "effusion*", "text:effusion", "NEAR(effusion, 3)", "^effusion",
     "effusion'; DROP TABLE texts; --", "effusion OR (", "{effusion} + -", "effusion %_", "\\effusion\\"],
)  # fmt: skip
def test_operators_and_quotes_are_plain_words(worded, text):
    result = worded.search(Query(text=text), weights={"texts": 0, "pictures": 0}, k=20)
    assert len(result) >= 4 and all("ffusion" in " ".join(hit.words) for hit in result.hits[:4])


def test_words_are_cut_as_fts5_cuts_them():
    assert terms("Großes Ödem, links; ÖDEM x2 don't") == ("großes", "odem", "links", "x2", "don", "t")
    assert terms("-- '' …") == ()


def test_only_so_many_words_are_looked_for(worded, monkeypatch):
    monkeypatch.setattr(words_module, "MOST", 2)
    monkeypatch.setattr("medlike.archive.search.text_query.MOST", 2)
    result = worded.search(Query(text="effusion chest fetal head"), k=20, weights={"texts": 0, "pictures": 0})
    assert any("the first 2 are looked for" in warning for warning in result.warnings)
    assert len(result) == 4
