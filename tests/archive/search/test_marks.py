"""Marks: stored images that a query is to be more like or less like, against a naive twin."""

import json
import math

import numpy as np
import pytest

from medlike import Query
from medlike.archive.search.marks import rocchio
from medlike.errors import QueryError


def naive(query, like, unlike):
    """q' in plain floating point: float [D], of any length."""

    def mean(vectors):
        units = [[value / math.sqrt(sum(v * v for v in vector)) for value in vector] for vector in vectors]
        return [sum(column) / len(units) for column in zip(*units, strict=True)] if units else [0.0] * len(query)

    [own], near, far = [mean([query.tolist()])], mean(like.tolist()), mean(unlike.tolist())
    return np.array([q + 0.75 * a - 0.15 * b for q, a, b in zip(own, near, far, strict=True)])


def shown(result):
    return [(hit.id, hit.distance, hit.similarity) for hit in result]


@pytest.mark.parametrize(("likes", "unlikes"), [(1, 0), (0, 1), (3, 2), (0, 0), (50, 50)])
def test_the_moved_vector_is_rocchios(likes, unlikes):
    random = np.random.default_rng(likes)
    query = random.integers(-127, 128, 128).astype(np.int8)
    like, unlike = (random.integers(-99, 100, (n, 128)).astype(np.int8) for n in (likes, unlikes))
    exact = naive(query, like, unlike)
    vector = rocchio(query, like, unlike)
    assert np.abs(vector - exact * 127 / np.abs(exact).max()).max() <= 0.52
    assert (rocchio(query, like[::-1], unlike[::-1]) == vector).all()


def test_vectors_of_zeros_move_nothing():
    query = np.array([127, -3, 50], np.int8)
    none = np.zeros((2, 3), np.int8)
    assert (rocchio(query, none, none) == query).all()
    assert (rocchio(none[0], none, none) == 0).all()


def test_without_a_fit_the_order_is_by_the_moved_content_vector(population):
    ids = population.add(60)
    asked, like, unlike = ids[0], ids[3:6], ids[8:10]
    contents = {id: population.rows[id]["content"] for id in ids}
    marked = [np.array([contents[id] for id in marks]) for marks in (like, unlike)]
    vector = rocchio(contents[asked], *marked)
    query = Query(id=asked, like=like, unlike=unlike)
    for rank in ("content", "hamming"):
        result = population.archive.search(query, k=60, rank=rank)
        code = population.rows[asked]["code"]  # the query's own
        assert shown(result) == population.expected(code, vector, 60, rank, accepts=lambda id: id != asked)
    exact = population.archive.search(query, k=60, rank="exact")
    assert [hit.similarity for hit in exact] == sorted((hit.similarity for hit in exact), reverse=True)
    alone = population.archive.search(Query(id=asked), k=60, rank="exact")
    was, now = ({hit.id: hit.similarity for hit in result} for result in (alone, exact))
    assert all(now[id] > was[id] for id in like)
    far = population.archive.search(Query(id=asked, unlike=unlike), k=60, rank="exact")
    assert all({hit.id: hit.similarity for hit in far}[id] < was[id] for id in unlike)
    # Verdicts are made for vectors of images.
    assert exact.familiarity is None and exact[0].label_share is None and exact[0].neighbour_share is None
    assert population.archive.search(Query(id=asked), rank="exact").familiarity is not None


def test_under_a_fit_code_and_order_are_by_the_moved_fitted_vector(population):
    ids = population.add(80, patient=[f"{at:032x}" for at in range(80)])
    population.archive.fit(bits=16)
    with population.archive.session() as session:
        fit = session.images(None).fit
    codes, vectors = fit.encode(np.array([population.rows[id]["content"] for id in ids]))
    near = np.bitwise_count(fit.codes(vectors) ^ codes).sum(axis=1)
    assert near.max() <= 2  # rounding costs few bits
    vector = rocchio(vectors[0], vectors[3:6], vectors[8:10])
    [code] = fit.codes(vector[None])
    for id, row in zip(ids, zip(codes, vectors, strict=True), strict=True):
        population.rows[id] |= dict(zip(("code", "content"), row, strict=True))
    query = Query(id=ids[0], like=ids[3:6], unlike=ids[8:10])
    result = population.archive.search(query, k=80, rank="content")
    assert shown(result) == population.expected(code, vector, 80, accepts=lambda id: id != ids[0])
    stated = result.receipt["query"]
    assert stated["code"] == code.tobytes().hex() and stated["like"] == ids[3:6] and stated["unlike"] == ids[8:10]
    trained = population.archive.search(query, k=80, rank="content", codes="trained")
    assert "fit" not in trained.receipt and shown(trained) != shown(result)


def test_receipts_repeat_bit_for_bit_when_marked_images_are_gone(population):
    ids = population.add(40)
    before = population.archive.search(Query(id=ids[0], like=[ids[1]], unlike=[ids[2]]), k=7)
    plain = population.archive.search(Query(id=ids[0]), k=7)
    assert "like" not in plain.receipt["query"] and shown(plain) != shown(before)
    receipt = json.loads(json.dumps(before.receipt))
    population.remove([ids[1], ids[2]])
    population.add(10)
    again = population.archive.repeat(receipt)
    assert shown(again) == shown(before) and again.receipt == receipt and not again.warnings
    assert again.familiarity is None
    population.archive.remove([ids[3]], erase=True)
    assert population.archive.repeat(receipt).erased == 1
    with pytest.raises(QueryError, match=f"no image '{ids[1]}' in the archive to mark"):
        population.archive.search(Query(id=ids[0], like=[ids[1]]))
    with pytest.raises(QueryError, match="to mark"):
        population.archive.search(Query(id=ids[0], unlike=[ids[3]]))
    # As of the generation in which they lived, they can be marked.
    assert shown(population.archive.search(Query(id=ids[0], like=[ids[1]], unlike=[ids[2]]), k=7, generation=1))


def test_an_image_that_is_given_alone_or_with_words_is_moved(worded, tmp_path):
    path = tmp_path / "captioned" / "0000.png"
    ids = [hit.id for hit in worded.search(Query(image=path), k=10)]
    assert worded.search(Query(image=path, like=[ids[9]]), k=10, rank="exact")[1].id == ids[9]
    both = worded.search(Query(image=path, text="effusion", like=[ids[9]]), k=10)
    plain = worded.search(Query(image=path, text="effusion"), k=10)
    places = [{hit.id: hit.ranks for hit in result}[ids[9]] for result in (both, plain)]
    assert places[0]["image"] < places[1]["image"] and places[0].get("words") == places[1].get("words")
    assert shown(worded.repeat(both.receipt)) == shown(both)
    with pytest.raises(QueryError, match="leave like and unlike out"):
        worded.nearest_texts(Query(image=path, like=[ids[9]]))


def test_many_queries_are_moved_each_by_its_own_marks(population):
    ids = population.add(30)
    queries = [Query(id=ids[0]), Query(id=ids[0], like=[ids[4]]), Query(id=ids[1], unlike=[ids[4]])]
    together = population.archive.search_many(queries, k=9)
    assert [shown(result) for result in together] == [shown(population.archive.search(query, k=9)) for query in queries]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"text": "nodule", "like": ["0" * 32]}, "give image= or id="),
        ({"id": "1" * 32, "like": ["0" * 32], "region": (0, 0, 1, 1)}, "no region"),
        ({"id": "1" * 32, "like": "0" * 32}, "list of ids"),
        ({"id": "1" * 32, "unlike": [7]}, "list of ids"),
        ({"id": "1" * 32, "like": ["0" * 32], "unlike": ["0" * 32]}, "leave one out"),
        ({"id": "1" * 32, "like": [f"{at:032x}" for at in range(101)]}, "101 images are marked: mark at most 100"),
    ],
)
def test_marks_that_make_no_sense(parts, message):
    with pytest.raises(QueryError, match=message):
        Query(**parts)


def test_an_image_marked_twice_counts_once():
    assert Query(id="1" * 32, like=["a", "b", "a"]).like == ("a", "b")
