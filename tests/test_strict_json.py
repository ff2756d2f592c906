"""JSON from outside is read within limits, and everything else is one error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medlike import strict_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


@given(VALUES)
def test_ordinary_documents_are_read_as_the_standard_library_reads_them(value):
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        assert strict_json.loads(text) == value == strict_json.loads(text.encode())


def test_a_byte_order_mark_is_no_part_of_a_document():
    assert strict_json.loads(b"\xef\xbb\xbf[1]") == [1]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[" * 3000 + "]" * 3000, "nested deeper than 32"),
        ("[" * 1_000_000, "nested deeper than 32"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested deeper than 32"),
        ("[" * 33 + "]" * 33, "nested deeper than 32"),
        ("9" * 400, "a number of 400 digits, at most 40"),
        ("[-" + "9" * 5000 + "]", "a number of 5001 digits"),
        ("1e400", "beyond 1.8e308"),
        ("[-1e999]", "beyond 1.8e308"),
        ("NaN", "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('"\\ud800"', "half of a surrogate pair"),
        ('"\ud800"', "half of a surrogate pair"),
        ('{"\\udfff": 1}', "half of a surrogate pair"),
        ("", "not JSON"),
        ("{", "not JSON"),
        ('"\0"', "not JSON"),
        (b"\xff\xfe[\0]\0", "not UTF-8"),
    ],
)
def test_what_breaks_readers_later_is_one_error(document, reason):
    with pytest.raises(strict_json.Unreadable, match=reason):
        strict_json.loads(document)


def test_the_limits_themselves_are_within_the_limits():
    deep = "[" * 32 + "]" * 32
    assert json.dumps(strict_json.loads(deep)) == deep
    assert strict_json.loads("9" * 40) == int("9" * 40)
    assert strict_json.loads('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_no_more_of_a_file_is_read_than_the_limit(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("[" + "1," * 5000 + "1]")
    with pytest.raises(strict_json.Unreadable, match="larger than 100 bytes"):
        strict_json.read(file, 100)
    assert len(strict_json.read(file)) == 5001
