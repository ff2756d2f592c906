"""Re-ranking of a shortlist against naive twins in plain floating point."""

import os
import subprocess
import sys

import numpy as np
import pytest

from medlike.codes.reranking import DAMPING, MEMBERS, NEAREST, by_neighbours, original_first, reranked


def clusters(seed, number=120, width=32, groups=6):
    """Content vectors around a few centres, and a query near the first."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, width))
    vectors = centres[random.integers(0, groups, number)] + 0.7 * random.normal(size=(number, width))
    query = centres[0] + 0.7 * random.normal(size=width)
    return tuple(np.clip(np.rint(25 * each), -127, 127).astype(np.int8) for each in (query, vectors))


def cosine(one, other):
    one, other = one.astype(float), other.astype(float)
    length = np.sqrt((one @ one) * (other @ other))
    return one @ other / length if length else 0.0


def neighbours(one, vectors, count, power):
    """Position -> weight of the nearest vectors of one."""
    near = sorted(((cosine(one, other), at) for at, other in enumerate(vectors)), reverse=True)
    return {at: max(0.0, value) ** power for value, at in near[:count]}


def diffusion(query, vectors, nearest):
    number = len(vectors)
    graph = np.zeros((number, number))
    for at, one in enumerate(vectors):
        others = [other for other in range(number) if other != at]
        for place, weight in neighbours(one, vectors[others], nearest, 3).items():
            other = others[place]
            graph[at, other] = graph[other, at] = max(weight, graph[at, other], graph[other, at])
    degrees = graph.sum(axis=1)
    for at, other in np.ndindex(number, number):
        if graph[at, other]:
            graph[at, other] /= np.sqrt(degrees[at] * degrees[other])
    start = np.zeros(number)
    for at, weight in neighbours(query, vectors, nearest, 3).items():
        start[at] = weight
    return np.linalg.solve(np.eye(number) - DAMPING * graph, start)


def expansion(query, vectors, nearest):
    wide = vectors.astype(float)
    units = wide / np.maximum(np.linalg.norm(wide, axis=1), 1e-9)[:, None]

    def mixed(one, first):
        return first + sum(weight * units[at] for at, weight in neighbours(one, vectors, nearest, 8).items())

    target = mixed(query, query / np.linalg.norm(query.astype(float)))
    members = np.array([mixed(one, 0.0) for one in vectors])
    lengths = np.maximum(np.linalg.norm(members, axis=1) * np.linalg.norm(target), 1e-9)
    return members @ target / lengths + np.array([cosine(query, one) for one in vectors])


@pytest.mark.parametrize("method", ["diffusion", "expansion"])
@pytest.mark.parametrize(("seed", "nearest"), [(1, NEAREST), (2, 4)])
def test_the_order_is_that_of_the_naive_twin(method, seed, nearest):
    query, vectors = clusters(seed)
    scores = {"diffusion": diffusion, "expansion": expansion}[method](query, vectors, nearest)
    order = reranked(query, vectors, method, nearest)
    assert sorted(order) == list(range(len(vectors)))
    # Where the twin's scores differ by more than the rounding, the order is the same.
    assert (np.diff(scores[order]) < 3e-5 * scores.max()).all()
    # It is an order of its own.
    plain = np.argsort([-cosine(query, one) for one in vectors], kind="stable")
    assert order.tolist() != plain.tolist()


@pytest.mark.parametrize("method", ["diffusion", "expansion"])
def test_equal_members_keep_their_order_wherever_they_stand(method):
    query, vectors = clusters(3, number=40)
    apart = np.argsort(reranked(query, np.concatenate([vectors, vectors]), method))
    assert (apart[:40] < apart[40:]).all()
    # Copies that stand together stay together: nothing tells them apart.
    together = np.argsort(reranked(query, np.repeat(vectors, 2, axis=0), method))
    assert (together[1::2] - together[::2] == 1).all()


@pytest.mark.parametrize("method", ["diffusion", "expansion"])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_handful_of_members_and_vectors_of_zeros_are_ordered(method, number):
    query, vectors = clusters(4, number=3)
    assert sorted(reranked(query, vectors[:number], method)) == list(range(number))
    assert reranked(query * 0, vectors[:number] * 0, method).tolist() == list(range(number))
    alike = np.repeat(vectors[:1], 30, axis=0)
    assert reranked(query, alike, method).tolist() == list(range(30))


@pytest.mark.parametrize("method", ["diffusion", "expansion"])
def test_the_scores_are_whole_numbers_that_no_order_of_summation_changes(method, monkeypatch):
    from medlike.codes import reranking

    query, vectors = clusters(5, number=MEMBERS, width=16, groups=2)
    expected = reranked(query, vectors, method)
    shuffle = np.random.default_rng(0).permutation(MEMBERS)
    seen = []
    score = reranking._diffused if method == "diffusion" else reranking._expanded

    def scored(cosines, nearest):
        seen.append(score(cosines, nearest))
        return seen[-1]

    monkeypatch.setattr(reranking, score.__name__, scored)
    assert reranked(query, vectors, method).tolist() == expected.tolist()
    reranked(query, vectors[shuffle], method)
    # The same to the last bit, though every sum was added in another order.
    assert seen[1].tolist() == seen[0][shuffle].tolist()


ORDERS = """
import numpy as np
from medlike.codes.reranking import _cosines, _diffused, _expanded

random = np.random.default_rng(0)
centres = random.normal(size=(8, 128))
vectors = np.clip(np.rint(25 * (centres[random.integers(0, 8, 257)] + random.normal(size=(257, 128)))), -127, 127)
cosines = _cosines(vectors.astype(np.int8))
print(_diffused(cosines, 10).tobytes().hex(), _expanded(cosines, 10).tobytes().hex())
"""


@pytest.mark.slow
def test_scores_are_the_same_to_the_last_bit_under_another_processors_linear_algebra():
    def scores(**settings):
        command = [sys.executable, "-c", ORDERS]
        return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, check=True).stdout

    expected = scores()
    # OpenBLAS adds in another order in the kernels of older processors. In another library this changes nothing.
    for kernels in ("Prescott", "Nehalem"):
        assert scores(OPENBLAS_CORETYPE=kernels, OPENBLAS_NUM_THREADS="1") == expected


def test_a_few_images_are_ordered_as_a_search_orders_them(monkeypatch):
    from medlike.codes import reranking

    monkeypatch.setattr(reranking, "SHORTLIST_IMAGES", 40)
    monkeypatch.setattr(reranking, "MEMBERS", 15)
    random = np.random.default_rng(5)
    query, vectors = clusters(5)
    vectors[30] = vectors[31] = vectors[3]
    vectors[7] = 0
    code, codes = random.integers(0, 4, 2).astype(np.uint8), random.integers(0, 4, (120, 2)).astype(np.uint8)
    near = [sum((int(a) ^ int(b)).bit_count() for a, b in zip(code, other, strict=True)) for other in codes]
    alike = [np.float32(cosine(query, vector)) for vector in vectors]
    places = sorted(range(120), key=lambda at: (near[at], -alike[at], at))
    shortlist = sorted(places[:40], key=lambda at: (-alike[at], at))
    members = [shortlist[at] for at in reranked(query, vectors[shortlist[:15]])]
    assert by_neighbours(code, query, codes, vectors).tolist() == [*members, *shortlist[15:], *places[40:]]
    assert by_neighbours(code, query, codes[:0], vectors[:0]).tolist() == []


def test_the_likeliest_original_goes_first_and_the_others_keep_their_order():
    random = np.random.default_rng(3)
    members, query = (
        random.integers(-127, 128, (40, 12)).astype(np.int8),
        random.integers(-127, 128, 12).astype(np.int8),
    )
    invariant = random.integers(-32767, 32768, (12, 12)).astype(np.int16)
    order = random.permutation(40)
    mapped, asked = (
        [[int(np.rint(sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) / 2**15))
          for column in invariant.T] for row in rows]
        for rows in (members, query[None])
    )  # fmt: skip
    cosines = [np.dot(row, asked[0]) / np.sqrt(float(np.dot(row, row))) for row in mapped]
    best = int(np.argmax(cosines))
    found = original_first(query, members, order, invariant)
    assert found[0] == best and found[1:].tolist() == [at for at in order.tolist() if at != best]
    assert original_first(query, members, order, None) is order
    alike = np.repeat(members[:1], 5, axis=0)
    assert original_first(query, alike, np.array([3, 1, 0, 2, 4]), invariant).tolist() == [3, 1, 0, 2, 4]
