"""Filters against a naive reading of the metadata, on columns and on fields that only SQL sees."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike.archive.index.filter_text import parse
from medlike.archive.index.filters import Filter, conditions
from medlike.errors import QueryError

ABSENT = object()
FIELDS = {
    "modality": st.sampled_from(["CT", "MR", "US", "ct", ABSENT]),
    "age": st.one_of(st.sampled_from([0, 40, 40.5, 61.25, ABSENT]), st.integers(0, 99)),
    "label": st.sampled_from(["0", "1", "2", "10", "normal", "häufig 'x'", ABSENT]),
    "grade": st.sampled_from([1, 2.5, "2.5", "high", True, ABSENT]),
    'odd "field"': st.just(ABSENT),
    "a.b": st.sampled_from(["x", 3, ABSENT]),
}
VALUES = {
    "modality": st.sampled_from(["CT", "MR", "nothing"]),
    "age": st.sampled_from([0, 40, 40.5, 60, 99.0]),
    "label": st.sampled_from(["1", "normal", "häufig 'x'", 1, 2.0, "' OR 1=1 --"]),
    "grade": st.sampled_from([1, 2.5, "2.5", "high"]),
    "a.b": st.sampled_from(["x", 3, "3"]),
}


def text(value):
    if isinstance(value, bool):
        value = int(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def number(value):
    try:
        return float(value)
    except ValueError:
        return None


def equal(held, wanted):
    return text(held) == text(wanted) or (number(held) is not None and number(held) == number(wanted))


def holds(held, operator, wanted, column):
    if operator == "exists":
        return (held is not ABSENT) == wanted
    if operator == "ne":
        return held is ABSENT or not holds(held, "eq", wanted, column)
    if held is ABSENT:
        return False
    if operator == "in":
        return any(holds(held, "eq", each, column) for each in wanted)
    if operator == "eq":
        # Text columns compare texts: "2.0" is not "2".
        return text(held) == text(wanted) if column == "text" else equal(held, wanted)
    if isinstance(wanted, str):
        if not isinstance(held, str):
            return False
        pair = (held, wanted)
    else:
        if (isinstance(held, str) and column != "text") or isinstance(held, bool):
            return False
        pair = (number(held), wanted)
        if pair[0] is None:
            return False
    return {
        "gt": pair[0] > pair[1],
        "gte": pair[0] >= pair[1],
        "lt": pair[0] < pair[1],
        "lte": pair[0] <= pair[1],
    }[operator]


@st.composite
def asked(draw):
    field = draw(st.sampled_from(sorted(VALUES)))
    operator = draw(st.sampled_from(["eq", "ne", "in", "gt", "gte", "lt", "lte", "exists"]))
    if operator == "exists":
        return field, operator, draw(st.booleans())
    if operator == "in":
        return field, operator, draw(st.lists(VALUES[field], max_size=3))
    return field, operator, draw(VALUES[field])


rows = st.lists(st.fixed_dictionaries(FIELDS), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows, wanted=st.lists(asked(), min_size=1, max_size=3))
def test_filters_equal_the_naive_reading(population, rows, wanted):
    population.restart(0)

    def listed(name):
        return [None if row[name] is ABSENT else row[name] for row in rows]

    extra = [{name: row[name] for name in ("grade", "a.b") if row[name] is not ABSENT} for row in rows]
    ids = population.add(
        len(rows), modality=listed("modality"), age=listed("age"), label=listed("label"), extra=extra
    )
    where = {}
    for field, operator, value in wanted:
        where.setdefault(field, {})[operator] = value
    made = Filter(conditions(where), population.store)
    passed = set()
    for part in population.archive._indexes.images.view().parts:
        mask = made.mask(part)
        for at in range(part.rows):
            if mask is None or mask[at]:
                passed.add(part.segment.array("ids")[at].tobytes().hex())
    kinds = {"modality": "text", "label": "text", "age": "number"}
    expected = {
        id
        for id, row in zip(ids, rows, strict=True)
        if all(
            holds(row[field], operator, value, kinds.get(field))
            for field, operators in where.items()
            for operator, value in operators.items()
        )
    }
    assert passed & set(ids) == expected


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        (["modality=CT"], {"modality": {"eq": "CT"}}),
        (["modality == CT"], {"modality": {"eq": "CT"}}),
        (["modality=CT,MR"], {"modality": {"in": ["CT", "MR"]}}),
        (["age>=40", "age<60.5"], {"age": {"gte": 40, "lt": 60.5}}),
        (["sex!=M"], {"sex": {"ne": "M"}}),
        (["label='007'"], {"label": {"eq": "007"}}),
        (["code=007"], {"code": {"eq": "007"}}),
        (["body_part=left knee"], {"body_part": {"eq": "left knee"}}),
        (["accession=1234567890123456789"], {"accession": {"eq": "1234567890123456789"}}),
        (["label!=1.0"], {"label": {"ne": "1.0"}}),
        (["label=1.0,2"], {"label": {"in": ["1.0", "2"]}}),
        ([], {}),
    ],
)
def test_text_form(texts, where):
    assert parse(texts) == where
    conditions(where)


def test_what_was_typed_is_found_as_number_and_as_text(population):
    population.add(
        4,
        age=[40.0, 41.0, None, None],
        label=["1.0", "1", None, None],
        extra=[{"grade": 2}, {"grade": "2"}, {"grade": 2.5}, {"grade": True}],
    )

    def found(*texts):
        made = Filter(conditions(parse(texts)), population.store)
        part = population.archive._indexes.images.view().parts[0]
        return np.flatnonzero(made.mask(part)).tolist()

    assert found("age=40") == [0] and found("age=40,41.0") == [0, 1] and found("age!=40.0") == [1, 2, 3]
    assert found("label=1.0") == [0] and found("label=1") == [1]
    assert found("grade=2") == [0, 1] and found("grade=2.5") == [2] and found("grade!=2") == [2, 3]


@pytest.mark.parametrize("texts", [["modality"], ["=CT"], ["a=1", "a=2"], [""]])
def test_texts_that_are_no_condition(texts):
    with pytest.raises(QueryError, match="condition"):
        parse(texts)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"age": {"above": 3}}, "eq, ne, in, gt, gte, lt, lte, exists"),
        ({"age": {}}, "no operator"),
        ({"age": {"gte": [1]}}, "text or a number"),
        ({"age": float("nan")}, "text or a number"),
        ({"age": {"in": "CT"}}, "list"),
        ({"age": {"exists": 1}}, "True or False"),
        ({'a"b': 1}, "field"),
        ({"": 1}, "field"),
        ({"code": 10**20}, "100000000000000000000: give a whole number of at most 64 bits"),
        ({"code": {"in": [1, -(10**20)]}}, "64 bits"),
        ("modality=CT", "mapping"),
    ],
)
def test_filters_that_make_no_sense_are_named(where, message):
    with pytest.raises(QueryError, match=message):
        conditions(where)


def test_hashed_columns_take_true_names_and_hashes_but_no_order(population):
    population.add(3, patient=["aa" * 16, "bb" * 16, None])
    part = population.archive._indexes.images.view().parts[0]

    def hashed(column, value):
        return {"P1": "aa" * 16}.get(value)

    for value, expected in (
        ("P1", [True, False, False]),
        ("bb" * 16, [False, True, False]),
        ("P9", [False] * 3),
    ):
        made = Filter(conditions({"patient": value}), population.store, hashed)
        assert made.mask(part).tolist() == expected
    with pytest.raises(QueryError, match="no order"):
        Filter(conditions({"patient": {"gt": "a"}}), population.store, hashed)


def test_a_number_column_compared_with_words_is_refused(population):
    population.add(2, age=3)
    part = population.archive._indexes.images.view().parts[0]
    with pytest.raises(QueryError, match="holds numbers"):
        Filter(conditions({"age": {"gte": "old"}}), population.store).mask(part)
