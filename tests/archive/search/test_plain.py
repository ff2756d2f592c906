"""Encoded queries and results are plain data: JSON and pickle hold them without losing a bit."""

import json
import pickle
from dataclasses import fields
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from jsonschema import Draft202012Validator

from medlike import Hit, Query, Result
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.encoding import encode_queries, read_images
from medlike.archive.search.familiarity import Familiarity
from medlike.archive.search.query_region import Region
from medlike.archive.search.text_query import TextQuery
from medlike.errors import QueryError

finite = st.floats(-1e9, 1e9)
words = st.text(max_size=12)
boxes = st.tuples(finite, finite, finite, finite)
sizes = st.tuples(st.integers(1, 9999), st.integers(1, 9999))
values = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), finite, words)
facts = st.dictionaries(words, values, max_size=3)
agreement = arrays.arrays(np.float32, (14, 14), elements=st.floats(0, 1, width=32) | st.just(np.float32(np.nan)))


def maybe(strategy):
    return st.none() | strategy


judgements = st.builds(
    Familiarity,
    alike=maybe(st.booleans()),
    similarity=maybe(st.floats(-1, 1)),
    usual=maybe(st.floats(-1, 1)),
    share=maybe(st.floats(0, 1)),
    units=st.integers(0, 2000),
    filtered=st.booleans(),
)


@st.composite
def text_queries(draw):
    bits = draw(maybe(st.sampled_from([2, 16])))
    return TextQuery(
        draw(words),
        tuple(draw(st.lists(words, max_size=3))),
        None if bits is None else draw(arrays.arrays(np.uint8, bits)),
        None if bits is None else draw(arrays.arrays(np.int16, 5)),
        draw(maybe(words)),
        tuple(draw(st.lists(words, max_size=2))),
    )


@st.composite
def regions(draw):
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    codes = draw(arrays.arrays(np.uint64, (height, width, draw(st.sampled_from([1, 2])))))
    turned = draw(maybe(arrays.arrays(np.uint64, (7, *codes.shape))))
    return Region(draw(boxes), codes, draw(arrays.arrays(np.bool_, (height, width))), turned)


@st.composite
def encoded_queries(draw, depth=1):
    local = draw(st.booleans())
    return EncodedQuery(
        draw(arrays.arrays(np.uint8, draw(st.sampled_from([0, 8, 64])))),
        draw(arrays.arrays(np.int8, 7)),
        draw(maybe(st.integers(1, 2**62))),
        draw(st.dictionaries(words, words, max_size=3)),
        title=draw(words),
        id=draw(maybe(words)),
        outlier=draw(maybe(facts)),
        modality=draw(maybe(words)),
        region=draw(maybe(regions())),
        cells=draw(arrays.arrays(np.uint64, (14, 14, 1))) if local else None,
        mask=draw(arrays.arrays(np.bool_, (14, 14))) if local else None,
        size=draw(maybe(sizes)),
        warnings=tuple(draw(st.lists(words, max_size=2))),
        text=draw(maybe(text_queries())),
        copy=draw(maybe(words)),
        like=tuple(draw(st.lists(words, max_size=2))),
        unlike=tuple(draw(st.lists(words, max_size=2))),
        members=tuple(draw(st.lists(encoded_queries(depth - 1), max_size=1))) if depth else (),
    )


@st.composite
def hits(draw, depth=1):
    return Hit(
        rank=draw(st.integers(1, 99)),
        id=draw(words),
        distance=draw(maybe(st.integers(0, 512) | finite)),
        similarity=draw(maybe(finite)),
        box=draw(maybe(boxes)),
        metadata=draw(facts),
        source=draw(maybe(facts)),
        others=tuple(draw(st.lists(hits(depth - 1), max_size=2))) if depth else (),
        group_size=draw(maybe(st.integers(1, 9))),
        orientation=draw(maybe(st.integers(0, 7))),
        scale=draw(maybe(finite)),
        size=draw(maybe(sizes)),
        texts=draw(st.dictionaries(words, words, max_size=2)),
        score=draw(maybe(finite)),
        ranks=draw(st.dictionaries(words, st.integers(1, 99), max_size=2)),
        words=tuple(draw(st.lists(words, max_size=2))),
        snippet=draw(maybe(words)),
        agreement=draw(maybe(agreement)),
        itself=draw(st.booleans()),
        member=draw(maybe(st.integers(1, 32))),
        patient=draw(maybe(st.integers(1, 9))),
    )


@st.composite
def results(draw):
    return Result(
        hits=draw(st.lists(hits(), max_size=2)),
        outlier=draw(maybe(facts)),
        receipt=draw(facts),
        seconds=draw(st.dictionaries(words, finite, max_size=2)),
        modality=draw(maybe(words)),
        warnings=tuple(draw(st.lists(words, max_size=2))),
        erased=draw(st.integers(0, 9)),
        title=draw(words),
        query_box=draw(maybe(boxes)),
        query_size=draw(maybe(sizes)),
        query_text=draw(maybe(words)),
        weights=draw(maybe(st.dictionaries(words, finite, max_size=2))),
        familiarity=draw(maybe(judgements)),
    )


def same(one, two):
    """Equal to the bit, arrays included: a field that is forgotten differs."""
    if isinstance(one, np.ndarray):
        return isinstance(two, np.ndarray) and one.dtype == two.dtype and one.shape == two.shape and (
            one.tobytes() == two.tobytes()
        )
    if hasattr(one, "__dataclass_fields__"):
        names = [field.name for field in fields(one) if field.name != "pictures"]
        return type(one) is type(two) and all(same(getattr(one, name), getattr(two, name)) for name in names)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and one == two


def validator(name):
    schema = json.loads(files("medlike.archive.search").joinpath("schemas", name).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@settings(max_examples=40, deadline=None)
@given(encoded_queries())
def test_an_encoded_query_travels_whole(query):
    text = json.dumps(query.to_dict(), allow_nan=False)
    validator("encoded-query.json").validate(json.loads(text))
    assert same(EncodedQuery.from_dict(json.loads(text)), query)
    assert same(pickle.loads(pickle.dumps(query)), query)


@settings(max_examples=40, deadline=None)
@given(results())
def test_a_result_travels_whole(result):
    text = json.dumps(result.to_dict(), allow_nan=False)
    validator("result.json").validate(json.loads(text))
    assert same(Result.from_dict(json.loads(text)), result)
    assert same(pickle.loads(pickle.dumps(result)), result)


def test_what_an_archive_answers_travels_whole_and_its_pictures_are_asked_for_by_id(archive, pictures):
    folder = pictures(5)
    archive.add(folder)
    with archive.session() as session:
        given = [Query(image=folder / "0000.png")]
        encoded = encode_queries(session, given, read_images(session, given), session.index.view(), True)[0]
    result = archive.search(given[0], k=3)
    for one, again in (
        (encoded, EncodedQuery.from_dict(json.loads(json.dumps(encoded.to_dict())))),
        (result, Result.from_dict(json.loads(json.dumps(result.to_dict())))),
        (result, pickle.loads(pickle.dumps(result))),
    ):
        assert same(one, again)
    assert again.hit_picture(result[0].id) is None and result.hit_picture(result[0].id) is not None
    assert (archive.picture(result[0].id) == result.hit_picture(result[0].id)).all()


@pytest.mark.parametrize("name, kind", [("encoded query", EncodedQuery), ("result", Result)])
def test_other_data_is_refused(name, kind):
    for other in ({}, {"version": 2}, {"version": 1}, {"version": 1, "hits": 3}):
        with pytest.raises(QueryError, match=f"no {name}"):
            kind.from_dict(other)
