"""Facets against a naive count of the metadata, image by image."""

import json
import math
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from medlike.archive.index import index as index_module
from medlike.archive.index.columns import Column, numbered
from medlike.archive.search.facets import _bins
from medlike.archive.storage.rows import NUMBER_COLUMNS, TEXT_COLUMNS
from medlike.errors import QueryError, UnknownField

RELAXED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HASHES = ("study", "series", "patient")


def filled(population, sizes):
    random = population.random

    def some(values, size):
        return [None if at >= len(values) else values[at] for at in random.integers(0, len(values) + 1, size)]

    for size in sizes:
        population.add(
            size,
            modality=some(["CT", "MR", "US"], size), label=some([f"label {n}" for n in range(9)], size),
            age=some([0.0, 40.0, 40.5, 61.25, 99.0], size), year=some([1999.0, 2024.0], size),
            patient=some([f"{n:032x}" for n in range(5)], size), study=some([f"{n:032x}" for n in range(40)], size),
        )  # fmt: skip


def check(facets, rows, most):
    """Compare facets with a count over rows, image by image."""
    assert facets.total == len(rows)
    for name in (*TEXT_COLUMNS, *NUMBER_COLUMNS):
        facet = facets[name]
        values = [row[name] for row in rows if row.get(name) is not None]
        assert (facet.images, facet.missing) == (len(values), len(rows) - len(values))
        assert facet.distinct == len(set(values))
        if name in HASHES:
            assert facet.kind == "identifier" and not facet.values and not facet.bins
        elif name in TEXT_COLUMNS:
            counts = sorted(Counter(values).items(), key=lambda each: (-each[1], each[0]))
            assert list(facet.values) == counts[:most]
            assert facet.others == sum(count for _, count in counts[most:])
        elif values:
            ordered = sorted(values)
            at = [max(1, -(-len(values) * quarter // 4)) - 1 for quarter in range(5)]
            assert list(facet.quartiles) == [ordered[place] for place in at]
            assert len(facet.bins) <= 10 and sum(count for *_, count in facet.bins) == len(values)
            for start, end, count in facet.bins:
                assert count == sum(start <= value < end for value in values)
        else:
            assert facet.quartiles is None and facet.bins == ()


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 40), max_size=4),
    most=st.integers(1, 12),
    few=st.booleans(),
)
def test_facets_equal_a_count_image_by_image(population, monkeypatch, seed, sizes, most, few):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 30)
    population.restart(seed)
    filled(population, sizes)
    before = population.archive.facets()
    population.remove(list(population.alive())[1 :: 7 if few else 2])
    archive = population.archive
    rows = list(population.alive().values())
    check(archive.facets(most=most), rows, most)
    check(archive.facets(generation=before.generation), population.alive(before.generation).values(), 100)
    assert archive.facets(generation=before.generation) == before
    if any(row.get("modality") for row in population.rows.values()):
        chosen = [row for row in rows if row.get("modality") == "CT"]
        check(archive.facets({"modality": "CT"}, most=most), chosen, most)


def test_many_removed_and_erased_images_do_not_count(population):
    population.add(700, modality="CT", patient=["a" * 32, "b" * 32] * 350)
    population.remove(list(population.alive())[:300])  # more than are dropped one by one
    assert population.archive.facets()["modality"].values == (("CT", 400),)
    population.archive.remove(list(population.alive())[1::2], erase=True)
    facets = population.archive.facets({"modality": "CT"})
    assert (facets.total, facets["patient"].distinct) == (200, 1)


def test_a_filter_on_any_field_works_and_a_misspelt_one_is_refused(population):
    population.add(4, label=["a", "b", "b", "a"], extra=[{"grade": 1}, {"grade": 2}, {"grade": 2}, {"grade": 2}])
    assert population.archive.facets({"grade": 2})["label"].values == (("b", 2), ("a", 1))
    with pytest.raises(UnknownField, match="did you mean label"):
        population.archive.facets({"lable": "a"})
    with pytest.raises(QueryError, match="most is 0"):
        population.archive.facets(most=0)
    with pytest.raises(QueryError, match="cannot be searched"):
        population.archive.facets(generation=99)


def test_they_are_plain_data_by_their_schema_and_name_no_patient(population):
    filled(population, [50])
    plain = population.archive.facets({"age": {"gte": 1}}).to_dict()
    schema = files("medlike.archive.search.schemas").joinpath("facets.json").read_text()
    Draft202012Validator(json.loads(schema)).validate(json.loads(json.dumps(plain)))
    assert plain["where"] == {"age": {"gte": 1}}
    assert f"{1:032x}" not in json.dumps(plain)
    assert population.archive.facets({"age": {"gte": 1}}).to_dict() == plain


@given(
    st.lists(
        st.integers(-200, 10**12).map(float) | st.floats(-1e9, 1e9) | st.floats(-1e-3, 1e-3), min_size=1, max_size=20
    )
)
@example([0.0006])  # 0.0006 / 1e-5 is below 60
def test_bins_are_few_of_one_plain_width_and_hold_each_value_once(values):
    points, numbers = np.unique(np.array(values), return_counts=True)
    bins = _bins(points, numbers)
    assert 1 <= len(bins) <= 10 and sum(count for *_, count in bins) == len(values)
    assert [end for _, end, _ in bins[:-1]] == [start for start, *_ in bins[1:]]
    assert bins[0][0] <= points[0] and points[-1] < bins[-1][1]
    for start, end, count in bins:
        assert count == sum(start <= value < end for value in values)
        digits = (end - start) / 10 ** math.floor(math.log10(1.001 * (end - start)))
        assert min(abs(digits - plain) for plain in (1, 2, 5)) < 2e-3


def test_bins_of_ages_are_decades():
    assert _bins(np.array([3.0, 40.0, 49.0, 81.0]), np.array([1, 2, 3, 4])) == (
        (0, 10, 1), (10, 20, 0), (20, 30, 0), (30, 40, 0), (40, 50, 5), (50, 60, 0), (60, 70, 0), (70, 80, 0),
        (80, 90, 4),
    )  # fmt: skip
    assert _bins(np.array([1.0]), np.array([7])) == ((1.0, 2.0, 7),)


def test_hashes_have_one_number_each_in_whichever_part_they_are():
    hashes = [f"{number:032x}" for number in range(3000)] + [f"{n:x}{0:031x}" for n in range(1, 16)]
    parts = [sorted(hashes[start::3] + hashes[:500]) for start in range(3)] + [[]]
    numbers = numbered([Column(np.empty(0, np.uint8), np.array(part, "S32")) for part in parts])
    known = {}
    for part, of_part in zip(parts, numbers, strict=True):
        assert len(part) == len(of_part)
        for value, number in zip(part, of_part.tolist(), strict=True):
            assert known.setdefault(value, number) == number
    assert len(set(known.values())) == len(set(hashes)) == max(known.values()) + 1
    assert [len(each) for each in numbered([Column(np.empty(0, np.uint8), [])] * 2)] == [0, 0]
