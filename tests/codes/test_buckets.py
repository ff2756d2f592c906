import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlike.codes import hamming
from medlike.codes.buckets import BucketTable
from medlike.errors import QueryError


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32), number=st.integers(0, 400), kinds=st.sampled_from([1, 3, 200]),
    k=st.integers(0, 450), share=st.sampled_from([None, 0.0, 0.1, 0.9]), radius=st.sampled_from([None, 0, 3, 16]),
)  # fmt: skip
def test_the_table_equals_a_scan(seed, number, kinds, k, share, radius):
    random = np.random.default_rng(seed)
    codes = random.integers(0, 256, (kinds, 2), dtype=np.uint8)[random.integers(0, kinds, number)]
    query = random.integers(0, 256, 2, dtype=np.uint8) if seed % 2 or not number else codes[0]
    mask = None if share is None else random.random(number) < share
    near, rows = BucketTable.of(codes).nearest(query, k, mask, radius)
    expected = hamming.nearest(codes, query, k, mask, radius, "numpy")
    assert np.array_equal(near, expected[0])
    assert np.array_equal(rows, expected[1])
    assert (near.dtype, rows.dtype) == (np.int32, np.int64)


def test_a_bucket_of_a_million_rows_gives_its_first():
    codes = np.zeros((200_000, 2), np.uint8)
    codes[150_000:] = np.random.default_rng(0).integers(0, 256, (50_000, 2), dtype=np.uint8)
    table = BucketTable.of(codes)
    near, rows = table.nearest(np.zeros(2, np.uint8), 100)
    assert rows.tolist() == list(range(100))
    assert not near.any()
    query = np.array([0, 255], np.uint8)
    for k in (1, 1000, 60_000):
        expected = hamming.nearest(codes, query, k, engine="numpy")
        found = table.nearest(query, k)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_does_not_fit_is_refused():
    table = BucketTable.of(np.zeros((3, 2), np.uint8))
    with pytest.raises(QueryError, match=r"uint8 \[N, 2\]"):
        BucketTable.of(np.zeros((3, 8), np.uint8))
    with pytest.raises(QueryError, match=r"uint8 \[2\]"):
        table.nearest(np.zeros(8, np.uint8), 1)
    with pytest.raises(QueryError, match="k is -1"):
        table.nearest(np.zeros(2, np.uint8), -1)
    with pytest.raises(QueryError, match=r"bool \[3\]"):
        table.nearest(np.zeros(2, np.uint8), 1, np.ones(2, bool))


@pytest.mark.parametrize("room", [0, 10, 1 << 15])
@pytest.mark.parametrize("k", [0, 1, 7, 100, 5000])
def test_nearest_and_more_holds_every_tie_it_has_room_for(k, room):
    random = np.random.default_rng(k)
    codes = random.integers(0, 4, (3000, 2), dtype=np.uint8)
    query = random.integers(0, 4, 2, dtype=np.uint8)
    mask = random.random(3000) < 0.7
    distance = np.bitwise_count(codes ^ query).sum(axis=1)
    for allowed in (None, mask):
        near, rows, complete = BucketTable.of(codes).nearest_and_more(query, k, allowed, room)
        expected = [(int(distance[row]), row) for row in range(3000) if allowed is None or allowed[row]]
        expected.sort()
        found = list(zip(near.tolist(), rows.tolist(), strict=True))
        assert found[: min(k, len(expected))] == expected[:k] and found == expected[: len(found)]
        assert [pair for pair in found if pair[0] <= complete] == [pair for pair in expected if pair[0] <= complete]
