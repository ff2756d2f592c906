"""Ids, codes, vectors and the table of an archive agree with its store, now and as of a generation."""

import sys

import numpy as np
import pytest

from medlike import MissingExtra, QueryError
from medlike.inference import similarity


def test_codes_and_vectors_are_those_of_the_rows(population):
    ids = population.add(7)
    population.remove(ids[2:4])
    ids = [*ids[:2], *ids[4:], *population.add(3)]
    archive, rows = population.archive, population.rows
    named, codes = archive.codes()
    assert named == ids == archive.ids()
    assert codes.dtype == np.uint8 and (codes == [rows[id]["code"] for id in ids]).all()
    named, vectors = archive.vectors()
    assert named == ids and vectors.dtype == np.float32 and vectors.shape == (8, population.bundle.content_dim)
    content = np.stack([rows[id]["content"] for id in ids])
    for row, vector in zip(content, vectors, strict=True):
        assert np.allclose(vectors @ vector, similarity(row, content), atol=1e-6)


def test_codes_of_an_earlier_generation_hold_what_was_there(population):
    first = population.add(3)
    before = population.store.generation()
    population.remove(first[:1])
    population.add(2)
    assert population.archive.codes(before)[0] == first and population.archive.vectors(before)[0] == first
    assert list(population.archive.to_pandas(before).index) == first
    with pytest.raises(QueryError, match="generation 99 cannot be searched"):
        population.archive.codes(99)


def test_arrays_of_an_empty_archive_have_their_width(population):
    ids, codes = population.archive.codes()
    assert ids == [] and codes.shape == (0, population.bundle.bits // 8) and codes.dtype == np.uint8
    assert population.archive.vectors()[1].shape == (0, population.bundle.content_dim)
    assert len(population.archive.to_pandas()) == 0


def test_a_vector_without_content_is_zero(population):
    population.add(1, contents=[np.zeros(population.bundle.content_dim, np.int8)])
    assert not population.archive.vectors()[1].any()


def test_the_table_has_metadata_groups_and_texts(worded):
    table = worded.to_pandas(texts=True)
    assert list(table.index) == worded.ids() and table.index.name == "id"
    assert list(table["modality"][:3]) == ["XR", "US", "XR"] and list(table["grade"][:4]) == ["0", "1", "2", "0"]
    assert table["patient"].nunique() == 5 and not table["patient"].str.contains("patient").any()
    assert table["text.text"].iloc[1] == "Fetal head, axial plane."
    assert "age" not in table and not [name for name in worded.to_pandas() if name.startswith("text.")]


def test_a_table_without_pandas_says_how_to_install_it(population, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"pip install 'medlike\[pandas\]'"):
        population.archive.to_pandas()


def test_ids_are_completed_from_their_first_digits(population):
    ids = population.add(20)
    assert population.archive.ids(ids[3][:8].upper()) == [ids[3]]
    assert population.archive.ids("xyz") == []
    population.remove(ids[3:4])
    assert population.archive.ids(ids[3]) == []
