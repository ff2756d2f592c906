"""Both engines against the most obvious search there is: unpack, count, sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlike.codes import hamming
from medlike.codes.packing import unpack
from medlike.errors import QueryError

ENGINES = ("numpy", "compiled")


def naive(codes, query, k=None, mask=None, radius=None):
    far = (unpack(codes) != unpack(query)).sum(axis=1) if len(codes) else np.empty(0, int)
    order = sorted(range(len(codes)), key=lambda row: (far[row], row))
    order = [row for row in order if (mask is None or mask[row]) and (radius is None or far[row] <= radius)]
    return [(int(far[row]), row) for row in order[:k]]


def pairs(answer):
    near, rows = answer
    assert near.dtype == np.int32
    assert rows.dtype == np.int64
    return list(zip(near.tolist(), rows.tolist(), strict=True))


@st.composite
def galleries(draw):
    """Codes that collide often, of every width class, with strides, a mask, k beyond N and a radius."""
    width = draw(st.sampled_from([1, 2, 3, 4, 8, 12, 16, 32, 40, 64]))
    rows = draw(st.integers(0, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    centres = rng.integers(0, 256, (draw(st.integers(1, 5)), width), dtype=np.uint8)
    codes = centres[rng.integers(0, len(centres), rows)]
    codes ^= (rng.random(codes.shape) < draw(st.sampled_from([0, 0.1, 1]))) * np.uint8(1 << draw(st.integers(0, 7)))
    if draw(st.booleans()):
        codes = np.repeat(codes, 2, axis=0)[::2]
    mask = draw(st.sampled_from([None, 0.0, 0.1, 0.9])) if rows else None
    mask = None if mask is None else rng.random(rows) < mask
    query = centres[0] if draw(st.booleans()) else rng.integers(0, 256, width, dtype=np.uint8)
    return (
        codes,
        query,
        draw(st.integers(0, 2 * rows + 2)),
        mask,
        draw(st.sampled_from([None, 0, 1, 7, 8 * width])),
    )


@settings(max_examples=150, deadline=None)
@given(galleries())
def test_nearest_equals_the_naive_search(case):
    codes, query, k, mask, radius = case
    expected = naive(codes, query, k, mask, radius)
    for engine in ENGINES:
        assert pairs(hamming.nearest(codes, query, k, mask, radius, engine)) == expected


@settings(max_examples=80, deadline=None)
@given(galleries(), st.integers(1, 4))
def test_the_selecting_kernel_equals_the_naive_search(case, k):
    codes, query, _, mask, radius = case
    codes = np.tile(codes, (9, 1))
    mask = None if mask is None else np.tile(mask, 9)
    queries = np.stack([query, query ^ np.uint8(3)])
    for wanted, answer in zip(queries, hamming.nearest_many(codes, queries, k, mask, radius, "compiled"), strict=True):
        assert pairs(answer) == naive(codes, wanted, k, mask, radius)


@settings(max_examples=80, deadline=None)
@given(galleries())
def test_within_equals_the_naive_search(case):
    codes, query, _, mask, radius = case
    radius = 3 if radius is None else radius
    for engine in ENGINES:
        blocks = hamming.within_blocks(codes, query, radius, mask, engine)
        assert sorted(pair for block in blocks for pair in pairs(block)) == naive(codes, query, None, mask, radius)


@settings(max_examples=80, deadline=None)
@given(galleries())
def test_ties_are_complete_in_every_engine(case):
    codes, query, k, mask, radius = case
    every = naive(codes, query, None, mask, radius)
    for engine in ENGINES:
        near, rows, complete = hamming.nearest_and_more(codes, query[None], k, mask, radius, engine)[0]
        answer = pairs((near, rows))
        assert answer[:k] == every[:k]
        assert [pair for pair in answer if pair[0] <= complete] == [pair for pair in every if pair[0] <= complete]
        if 0 < k <= len(every):
            assert complete >= every[k - 1][0] - 1


@settings(max_examples=40, deadline=None)
@given(galleries())
def test_a_packed_mask_means_the_same(case):
    codes, query, k, mask, radius = case
    packed = None if mask is None else np.packbits(mask)
    for engine in ENGINES:
        assert pairs(hamming.nearest(codes, query, k, packed, radius, engine)) == naive(codes, query, k, mask, radius)


@pytest.mark.parametrize("room", [1, 50, 4096])
def test_ties_are_complete_as_far_as_it_is_said(monkeypatch, room):
    monkeypatch.setattr(hamming, "STEP", 700)
    monkeypatch.setattr(hamming, "WORTH", 1)
    monkeypatch.setattr(hamming, "ROOM", room)
    rng = np.random.default_rng(room)
    centres = rng.integers(0, 256, (4, 8), dtype=np.uint8)
    codes = centres[rng.integers(0, 4, 9000)] ^ np.packbits(rng.random((9000, 64)) < 0.02, axis=1)
    mask = rng.random(9000) < 0.5
    for k in (1, 20, 500):
        for radius in (None, 0, 3):
            for query in (centres[0], codes[5]):
                every = naive(codes, query, None, mask, radius)
                near, rows, complete = hamming.nearest_and_more(codes, query[None], k, mask, radius, "compiled")[0]
                found = pairs((near, rows))
                assert found[:k] == every[:k]
                assert [pair for pair in found if pair[0] <= complete] == [
                    pair for pair in every if pair[0] <= complete
                ]
                assert complete >= (every[k - 1][0] if len(every) >= k else 64 if radius is None else radius) - 1


@pytest.mark.parametrize("order", ["nearest first", "nearest last", "one code", "shuffled"])
@pytest.mark.parametrize("width", [2, 8, 16, 24, 64])
@pytest.mark.parametrize("threads", [False, True])
def test_many_blocks_steps_and_threads_agree_with_numpy(monkeypatch, order, width, threads):
    if threads:
        # Steps of 1,000 rows make both threads take many turns.
        monkeypatch.setattr(hamming, "STEP", 1000)
        monkeypatch.setattr(hamming, "WORTH", 1)
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 256, (20_500, width), dtype=np.uint8)
    codes[::3] = codes[0]
    query = codes[0] ^ np.uint8(1)
    far = hamming.distances(codes, query, "numpy")
    if order == "one code":
        codes[:] = codes[0]
    elif order != "shuffled":
        codes = codes[np.argsort(far if order == "nearest first" else -far, kind="stable")]
    mask = rng.random(len(codes)) < 0.5
    for k in (1, 7, 100, 5000, 7000):
        for chosen in (None, mask):
            expected = pairs(hamming.nearest(codes, query, k, chosen, engine="numpy"))
            assert pairs(hamming.nearest(codes, query, k, chosen, engine="compiled")) == expected
    assert np.array_equal(hamming.distances(codes, query, "numpy"), hamming.distances(codes, query, "compiled"))


def test_large_codes_take_the_compiled_road_by_themselves(monkeypatch):
    monkeypatch.setattr(hamming, "SMALL", 1000)
    used = []
    monkeypatch.setattr(hamming, "_kernels", lambda real=hamming._kernels: used.append(1) or real())
    codes = np.zeros((200, 8), np.uint8)
    hamming.nearest(codes[:10], codes[0], 1)
    assert not used
    hamming.nearest(codes, codes[0], 1)
    assert used


def test_bad_arguments_are_named():
    codes = np.zeros((4, 8), np.uint8)
    with pytest.raises(QueryError, match="8 bytes"):
        hamming.nearest(codes, np.zeros(4, np.uint8), 1)
    with pytest.raises(QueryError, match="k is -1"):
        hamming.nearest(codes, codes[0], -1)
    with pytest.raises(QueryError, match=r"bool \[4\]"):
        hamming.nearest(codes, codes[0], 1, mask=np.ones(3, bool))
    with pytest.raises(QueryError, match=r"uint8 \[N, bytes\]"):
        hamming.nearest(codes.astype(float), codes[0], 1)


def test_a_search_in_a_forked_child_and_in_many_threads():
    import multiprocessing
    from concurrent.futures import ThreadPoolExecutor

    codes = np.random.default_rng(0).integers(0, 256, (600_000, 8), dtype=np.uint8)
    expected = pairs(hamming.nearest(codes, codes[7], 5, engine="compiled"))
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda _: pairs(hamming.nearest(codes, codes[7], 5, engine="compiled")), range(32))
        assert all(answer == expected for answer in answers)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(pairs(hamming.nearest(codes, codes[7], 5, engine="compiled"))))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_kernels_work_where_nothing_can_be_cached():
    import subprocess
    import sys

    code = (
        "from numba.core import caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from medlike.codes import hamming\n"
        "codes = np.zeros((300, 8), np.uint8)\n"
        "print(hamming.nearest(codes, codes[0], 2, engine='compiled')[1].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0, 1]"
