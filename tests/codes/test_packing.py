import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medlike.codes.hamming import words
from medlike.codes.packing import pack, unpack
from medlike.errors import QueryError


@given(hnp.arrays(bool, st.tuples(st.integers(0, 20), st.integers(0, 9).map(lambda n: 8 * n))))
def test_unpack_returns_what_was_packed(bits):
    assert np.array_equal(unpack(pack(bits)), bits)


def test_most_significant_bit_comes_first():
    assert pack([1, 0, 0, 0, 0, 0, 0, 1]).tolist() == [129]


@pytest.mark.parametrize("shape", [(7,), (2, 9), ()])
def test_odd_number_of_bits_is_refused(shape):
    with pytest.raises(QueryError, match="multiple of 8"):
        pack(np.ones(shape))


@pytest.mark.parametrize(
    ("width", "kind"), [(1, "u1"), (2, "u2"), (3, "u1"), (4, "u4"), (6, "u2"), (8, "u8"), (24, "u8")]
)
def test_words_are_the_widest_that_fit(width, kind):
    codes = np.arange(5 * width, dtype=np.uint8).reshape(5, width)
    assert words(codes).dtype == kind
    assert np.array_equal(words(codes).view(np.uint8), codes)


def test_words_of_unaligned_codes_are_the_same():
    raw = np.arange(41, dtype=np.uint8)
    assert np.array_equal(words(raw[1:].reshape(5, 8)), words(raw[1:].copy().reshape(5, 8)))
