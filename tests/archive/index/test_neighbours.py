"""The sample of nearest neighbours against a naive twin, brought up to date and made anew."""

import hashlib
import json

import numpy as np
import pytest

from medlike import Archive, Query
from medlike.archive.index import index as index_module
from medlike.archive.index import neighbours
from medlike.archive.index.index import Index
from medlike.archive.index.neighbours import NEAR_DUPLICATE, NEAREST, NONE, NeighbourSample, Vicinity, closeness
from medlike.archive.search import search as search_module


def naive(population, size, generation=None):
    """Row -> similarities of the nearest neighbours, for one image of each unit in the order of their ids."""
    rows, similarity = population.alive(generation), population.similarity
    units = {}
    for id in sorted(rows):
        names = (name for name in ("patient", "study", "id") if rows[id].get(name))
        first = next(names)
        units.setdefault((first, rows[id][first]), id)
    expected = {}
    for id in list(units.values())[:size]:
        own = rows[id]
        others = [
            similarity(own["content"], other)
            for other, row in rows.items()
            if other != id
            and not any(own.get(name) and own.get(name) == row.get(name) for name in ("patient", "study"))
        ]
        nearest = sorted((each for each in others if each < NEAR_DUPLICATE), reverse=True)
        expected[own["row"]] = [*nearest, *[NONE] * NEAREST][:NEAREST]
    return expected


def sampled(sample):
    return dict(zip(sample.rows.tolist(), sample.similarities.tolist(), strict=True))


def grow(population, number):
    """Add images, some of one patient, some without, some near-duplicates of others."""
    draw = population.random
    contents = [population.content() for _ in range(number)]
    for at in range(2, number, 5):
        contents[at] = contents[at - 1].copy()  # of another patient, and a near-duplicate
    patients = [f"{draw.integers(number):032x}" if at % 3 else None for at in range(number)]
    studies = [f"{draw.integers(100):032x}" if at % 4 else None for at in range(number)]
    return population.add(number, contents=contents, patient=patients, study=studies)


@pytest.mark.parametrize("size", [7, 2000])
def test_the_sample_equals_a_naive_one_whatever_it_was_made_from(population, monkeypatch, size):
    monkeypatch.setattr(neighbours, "SIZE", size)
    monkeypatch.setattr(neighbours, "LEAST", 1)
    monkeypatch.setattr(neighbours, "_BLOCK", 16)
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 40)
    index = population.archive._indexes.images
    kept = NeighbourSample(index)
    assert not len(kept.of(index.view()).rows)
    for number in (3, 50, 1, 20):
        grow(population, number)
        assert sampled(kept.of(index.view())) == naive(population, size)
        population.remove(list(population.alive())[1::6])
        view = index.view()
        expected = naive(population, size)
        assert sampled(kept.of(view)) == expected
        assert sampled(NeighbourSample(index).of(view)) == expected
    early = population.store.generation() - 4
    assert sampled(kept.of(index.view(early))) == naive(population, size, early)


def test_large_archives_have_a_small_sample(population, monkeypatch):
    monkeypatch.setattr(neighbours, "LEAST", 5)
    monkeypatch.setattr(neighbours, "PAIRS", 400)
    population.add(40)
    index = population.archive._indexes.images
    assert len(NeighbourSample(index).of(index.view()).rows) == 10


@pytest.fixture
def filed(population, monkeypatch):
    """An index whose sample is in a file."""
    monkeypatch.setattr(neighbours, "_WORTH_A_FILE", 20)
    population.add(30)
    index = population.archive._indexes.images
    NeighbourSample(index).of(index.view())
    return index, index.folder / neighbours.FILE


def test_the_file_saves_the_comparison(filed, monkeypatch):
    index, file = filed
    assert file.exists()
    expected = sampled(NeighbourSample(index).of(index.view()))
    monkeypatch.setattr(neighbours, "_nearest", None)
    fresh = Index(index.folder.parent, index.store, index.layout)
    assert sampled(NeighbourSample(fresh).of(fresh.view())) == expected


@pytest.mark.parametrize("damage", ["flip", "cut", "bundle", "earlier"])
def test_a_damaged_file_is_made_anew(filed, damage):
    index, file = filed
    expected = sampled(NeighbourSample(index).of(index.view()))
    text = bytearray(file.read_bytes())
    if damage == "flip":
        text[text.index(b"similarities") + 20] ^= 1
    elif damage == "cut":
        del text[-9:]
    else:
        facts = json.loads(text.split(b"\n", 1)[1])
        if damage == "bundle":
            facts |= {"bundle": "0" * 64, "rows": []}
        else:  # an earlier medlike kept one neighbour
            facts |= {name: [row[0] for row in facts[name]] for name in ("neighbours", "similarities")}
        body = json.dumps(facts).encode()
        text = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
    file.write_bytes(text)
    assert sampled(NeighbourSample(index).of(index.view())) == expected


def test_an_erasure_leaves_no_trace_in_the_file(filed, population):
    index, file = filed
    row = next(iter(population.alive().values()))["row"]
    before = json.loads(file.read_bytes().split(b"\n", 1)[1])
    assert row in before["rows"]
    population.archive.remove(next(iter(population.alive())), erase=True)
    facts = json.loads(file.read_bytes().split(b"\n", 1)[1])
    assert row not in facts["rows"] and not any(row in nearest for nearest in facts["neighbours"])
    assert facts["images"] == 29 and facts["generation"] == index.store.generation() > before["generation"]


@pytest.fixture
def small_files(monkeypatch):
    """Samples of a few images have a file."""
    monkeypatch.setattr(neighbours, "_WORTH_A_FILE", 4)


def of_newest(archive):
    """Whether the file's sample is of the newest generation."""
    file = archive._indexes.images.folder / neighbours.FILE
    return json.loads(file.read_bytes().split(b"\n", 1)[1])["generation"] == archive._store.generation()


def test_no_first_search_makes_the_sample(small_files, archive, pictures, encoder, monkeypatch):
    archive.add(pictures(6))
    assert of_newest(archive)
    file = archive._indexes.images.folder / neighbours.FILE
    for write in (lambda: archive.add(pictures(7)), archive.reindex, archive.compact):
        file.unlink(missing_ok=True)
        archive._bundles.reopen(archive._folder)
        write()
        assert of_newest(archive)
    expected = archive.search(Query(id=archive.ids()[0])).familiarity
    archive.close()
    monkeypatch.setattr(neighbours, "_sampled", None)
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.search(Query(id=again.ids()[0])).familiarity == expected


def test_a_small_drain_leaves_the_file_as_it_is(small_files, archive, pictures):
    archive.add(pictures(20))
    folder = pictures(24)
    for name, kept in (("0020.png", False), ("0021.png", False), ("0022.png", True)):
        archive.receive((folder / name).read_bytes(), name)
        archive.drain()
        assert of_newest(archive) == kept


def test_numbers_are_sorted_as_argsort_does():
    random = np.random.default_rng(0)
    values = random.normal(size=5000).astype(np.float32)
    values[::7], values[::11], values[::13] = 0.25, -0.0, 0.0
    for each in (values, np.sort(values), values[:1], values[:0], np.round(values, 1), np.float32(1e-40) * values):
        assert (neighbours.ascending(each) == np.argsort(each, kind="stable")).all()


def test_the_similarity_is_that_of_hits_to_the_bit(population):
    first, second = population.add(2)
    index = population.archive._indexes.images
    sample = NeighbourSample(index).of(index.view())
    expected = population.similarity(population.rows[first]["content"], second)
    assert sample.similarities[:, 0].tolist() == [expected, expected]
    assert np.array_equal(sample.usual, np.float32([expected, expected]))


def test_what_is_usual_is_looked_up_around_the_query(population, monkeypatch):
    monkeypatch.setattr(search_module, "LOCAL", 7)
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 20)
    for number in (30, 21, 4):
        grow(population, number)
    view = population.archive._indexes.images.view()
    sample = NeighbourSample(population.archive._indexes.images).of(view)
    vicinity = Vicinity.of(view, sample)
    contents = {row["row"]: row["content"] for row in population.alive().values()}
    ids = {row["row"]: id for id, row in population.alive().items()}
    query = population.content()
    expected = {
        row: float(np.mean([each for each in nearest if each > NONE], dtype=np.float64))
        for row, nearest in sampled(sample).items()
        if nearest[0] > NONE
    }
    assert len(vicinity.closeness) == len(expected) > 20
    for vector, close in zip(vicinity.vectors, vicinity.closeness, strict=True):
        assert any((contents[row] == vector).all() and np.float32(expected[row]) == close for row in expected)
    nearest = sorted(expected, key=lambda row: -population.similarity(query, ids[row]))[:7]
    assert np.allclose(search_module._around(vicinity, query), sorted(expected[row] for row in nearest), atol=1e-6)
    assert closeness(np.full((1, 5), NONE, np.float32)).tolist() == [0.0]
