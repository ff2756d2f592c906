"""A dictionary column: codes by value, and masks of the rows whose code is in a range."""

import numpy as np
import pytest

from medlike.archive.index import columns
from medlike.archive.index.columns import Column, complement


@pytest.mark.parametrize(("kind", "size"), [("u1", 255), ("u2", 65535)])
def test_without_an_unknown_value_a_full_dictionary_is_all_rows(kind, size):
    column = Column(np.arange(size + 1).astype(kind), range(size))
    assert column.mask(complement([], size), size + 1).all()


def test_a_dictionary_without_values_has_no_rows():
    assert not Column(np.zeros(3, "u1"), []).mask([(1, 1)], 3).any()


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
@pytest.mark.parametrize(
    "ranges", [[], [(0, 1)], [(3, 4)], [(1, 6)], [(0, 2), (5, 6), (8, 9)], [(at, at + 1) for at in range(0, 10, 2)]]
)
def test_a_mask_holds_the_rows_whose_code_is_in_a_range(monkeypatch, kind, ranges):
    # Steps of 7 rows, so that both threads take many turns and the last step is a part of one.
    monkeypatch.setattr(columns, "STEP", 7)
    monkeypatch.setattr(columns, "WORTH", 1)
    codes = np.random.default_rng(len(ranges)).integers(0, 10, 100).astype(kind)
    chosen = Column(codes, list(range(9))).mask(ranges, 95)
    assert chosen.tolist() == [any(first <= code < last for first, last in ranges) for code in codes[:95]]
