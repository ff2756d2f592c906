"""Filters as they are typed: whatever an image holds can be asked for."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import medlike
from medlike import Archive, Query
from medlike.archive.index.filter_text import parse
from medlike.archive.index.filters import Filter, conditions
from medlike.archive.index.known_fields import known_fields
from medlike.archive.storage.rows import FILTER_COLUMNS
from medlike.cli.options import conditions as typed
from medlike.errors import QueryError, UnknownField


def quoted(value, quote='"'):
    return quote + str(value).replace(quote, 2 * quote) + quote


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        (['label="mass, left"'], {"label": {"eq": "mass, left"}}),
        (["label='mass, left'"], {"label": {"eq": "mass, left"}}),
        (['label="a, b",c , "d""e"'], {"label": {"in": ["a, b", "c", 'd"e']}}),
        (['label=" blank "'], {"label": {"eq": " blank "}}),
        (['label="="'], {"label": {"eq": "="}}),
        (["label='it''s'"], {"label": {"eq": "it's"}}),
        (["label=5' left"], {"label": {"eq": "5' left"}}),
        (["label!=mass, left"], {"label": {"ne": "mass, left"}}),
        (["label=[left], (right)"], {"label": {"in": ["[left]", "(right)"]}}),
        (["manufacturer=medlike [name]"], {"manufacturer": {"eq": "medlike [name]"}}),
        (["Finding Label=mass"], {"Finding Label": {"eq": "mass"}}),
        (['"a=b"=mass'], {"a=b": {"eq": "mass"}}),
        (["age>='40'"], {"age": {"gte": "40"}}),
        (['{"modality": "CT"}'], {"modality": {"eq": "CT"}}),
        (["{'modality': ['CT', 'MR'], 'age': {'gte': 40}}"], {"modality": {"in": ["CT", "MR"]}, "age": {"gte": 40}}),
        (['{"label": {"exists": true}}'], {"label": {"exists": True}}),
        (["{'label': None}"], {"label": {"exists": False}}),
        (["{'label': 'a'}", "age>3"], {"label": {"eq": "a"}, "age": {"gt": 3}}),
    ],
)
def test_any_value_can_be_typed(texts, where):
    assert parse(texts) == where
    conditions(where)


@pytest.mark.parametrize(
    "texts",
    [["{modality: CT}"], ["{'a', 'b'}"], ["{'a': {'above': 3}}"], ['label="open'], ["label='a,b"], ["{" * 10_000]],
)
def test_what_cannot_be_read_says_how_to_write_it(texts):
    with pytest.raises(QueryError, match=r"condition|operator"):
        parse(texts)


def test_an_unmatched_quote_is_named():
    with pytest.raises(QueryError, match='"open has an unmatched quote: write'):
        parse(['label="open'])


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(exclude_characters='"\0', exclude_categories=["Cs"]), min_size=1), st.text(min_size=1))
def test_every_text_in_quotes_is_taken_as_it_is(field, value):
    assert parse([f"{quoted(field)}={quoted(value)}"]) == {field: {"eq": value}}
    assert parse([f"{quoted(field)}!={quoted(value, chr(39))}"]) == {field: {"ne": value}}
    several = [value, ",", f"{value},"]
    assert parse([f"label={','.join(map(quoted, several))}"]) == {"label": {"in": several}}


@pytest.fixture
def sample_archive(tmp_path, tiny_bundle, encoder):
    """All samples, and an image that was received with values of every kind that may be."""
    with Archive.create(tmp_path / "samples", bundle=tiny_bundle, encoder=encoder, text_bundle=None) as archive:
        archive.add(medlike.samples() / "manifest.csv")
        data = next((medlike.samples() / "queries").glob("chest-*.jpg")).read_bytes()
        odd = {
            "label": 1.0, "grade": 2.5, "flag": True, "tags": ["a, b", "[c]", 7], "note": 'say "no", it\'s [so]; {x}=1',
        }  # fmt: skip
        archive.receive(data, "odd.jpg", metadata=odd)
        archive.drain()
        yield archive


@pytest.mark.slow
def test_every_value_of_the_samples_is_found(sample_archive):
    archive = sample_archive
    with archive.session() as session:
        parts = session.index.view().parts
        images = session.store.images(range(1, 1000))
        rows = {}  # (field, how it is asked) -> the rows that have it
        for row, image in images.items():
            facts = {name: getattr(image, name) for name in FILTER_COLUMNS} | image.metadata
            source = archive.source(image.id)
            for name in ("study", "series"):
                rows.setdefault((name, json.dumps(source.get(f"{name}_uid"))), set()).add(row)
            for field, value in facts.items():
                for each in value if isinstance(value, list) else [value]:
                    rows.setdefault((field, json.dumps(each)), set()).add(row)
        rows = {key: found for key, found in rows.items() if key[1] != "null"}
        assert len(rows) > 250 and len({field for field, _ in rows}) > 20

        def passed(where):
            made = Filter(conditions(where), session.store, session.hashed)
            return {int(row) for part in parts for row in part.segment.images[: part.rows][made.mask(part)]}

        for (field, written), expected in rows.items():
            value = json.loads(written)
            assert passed({field: value}) == expected, (field, value)
            assert passed(typed([f"{field}={quoted(value)}"])) == expected, (field, value)
            assert passed(typed([json.dumps({field: value})])) == expected, (field, value)
            assert passed(typed([repr({field: [value, "no such value"]})])) == expected, (field, value)
            if str(value) == str(value).strip("\"' ") and "," not in str(value):
                assert passed(typed([f"{field}={value}"])) == expected, (field, value)


def test_a_field_that_no_image_has_is_an_error(population):
    population.add(3, modality=["CT", None, None], extra=[{"grade": 1}, {}, {"häufig": "x"}])
    query = Query(id=population.archive.ids()[0])
    for where in ({"age": {"gte": 3}}, {"grad": 1}, {"grad": {"exists": False}}, {"patient": "P-1"}):
        field = next(iter(where))
        named = rf"no image has the field {field}(\.|: did you mean grade\?) The images have .*grade, .*, modality"
        with pytest.raises(UnknownField, match=named):
            population.archive.search(query, where=where)
    with pytest.raises(UnknownField, match=r"did you mean modality\?"):
        population.archive.search_many([query], where={"modality": "CT", "modalty": "CT"})
    assert not population.archive.search(query, where={"häufig": "y"}).hits
    with population.archive.session() as session:
        parts = session.index.view().parts
        known = ["frame", "frames", "grade", "height", "häufig", "modality", "width"]
        assert known_fields(session.store, parts) == known


def test_removed_images_and_empty_archives_make_no_error(population):
    assert population.archive.search(np.zeros((20, 20), np.uint8), where={"anything": 1}).hits == []
    asked, last = population.add(2, modality=["CT", None], extra=[{}, {"grade": 1}])
    result = population.archive.search(Query(id=asked), where={"grade": 1})
    population.remove([last])
    assert population.archive.search(Query(id=asked), where={"grade": 1}).hits == []
    assert [hit.id for hit in population.archive.repeat(result.receipt).hits] == [last]
