"""The orders of the answer: naive twins, and one total order whatever k, filters, groups and parts of the index."""

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medlike import Query
from medlike.archive.index import index as index_module
from medlike.archive.search import ranking
from medlike.archive.search.settings import Rank
from medlike.codes import reranking
from medlike.codes.reranking import reranked

RELAXED = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def few(monkeypatch):
    """Shortlists that are shorter than the archive, and an index of several parts."""
    monkeypatch.setattr(ranking, "SHORTLIST_IMAGES", 25)
    monkeypatch.setattr(reranking, "MEMBERS", 12)
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 30)


def filled(population, seed, sizes):
    """Images of few codes and few contents, so that every key of an order decides somewhere."""
    population.restart(seed)
    contents = [population.content() for _ in range(9)]
    for size in sizes:
        draw = population.random.integers
        population.add(
            size,
            codes=[population.code(flips=0.01) for _ in range(size)],
            contents=[contents[draw(9)] for _ in range(size)],
            modality=[("CT", "MR")[draw(2)] for _ in range(size)],
            patient=[f"{draw(6):032x}" for _ in range(size)],
            study=[f"{draw(12):032x}" if draw(4) else None for _ in range(size)],
        )
    population.remove(list(population.alive())[1::7])
    return next(iter(population.alive()))


def expected(population, row, order, radius, accepts):
    """The naive twin of an order: all images that may be answered."""
    code, content = row["code"], row["content"]
    whole = population.expected(code, content, 10**6, radius=radius, accepts=accepts)
    if order == "exact":
        return sorted(whole, key=lambda each: (-each[2], each[0]))
    listed = sorted(whole[:25], key=lambda each: (-each[2], each[0]))
    if order == "neighbours" and listed:
        vectors = [population.rows[id]["content"] for id, _, _ in listed[:12]]
        listed[:12] = [listed[at] for at in reranked(content, np.array(vectors))]
    return listed + whole[25:]


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    k=st.integers(1, 60),
    order=st.sampled_from(["shortlist", "exact", "neighbours"]),
    radius=st.sampled_from([None, 2, 30]),
)
def test_each_order_is_that_of_the_naive_twin(population, few, seed, sizes, k, order, radius):
    asked = filled(population, seed, sizes)
    row = population.rows[asked]

    def accepts(id):
        return id != asked and population.rows[id]["metadata"]["modality"] == "CT"

    result = population.archive.search(Query(id=asked), k=k, rank=order, radius=radius, where={"modality": "CT"})
    found = [(hit.id, hit.distance, hit.similarity) for hit in result]
    assert found == expected(population, row, order, radius, accepts)[:k]
    assert population.archive.repeat(result.receipt).warnings == result.warnings


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4),
    order=st.sampled_from(get_args(Rank)),
    chosen=st.fixed_dictionaries(
        {},
        optional={
            "where": st.just({"modality": "CT"}),
            "group_by": st.just("study"),
            "exclude_own_patient": st.just(True),
            "include_self": st.just(True),
            "radius": st.sampled_from([2, 30]),
        },
    ),
    depths=st.lists(st.integers(1, 90), min_size=1, max_size=3),
)
def test_the_first_k_are_the_start_of_a_longer_list(population, few, seed, sizes, order, chosen, depths):
    asked = filled(population, seed, sizes)

    def hits(k):
        result = population.archive.search(Query(id=asked), k=k, rank=order, **chosen)
        return [
            (hit.id, hit.distance, hit.similarity, hit.group_size, [other.id for other in hit.others])
            for hit in result
        ]

    longest = hits(400)
    for k in depths:
        assert hits(k) == longest[:k]


@pytest.mark.parametrize("order", ["shortlist", "exact", "neighbours"])
def test_a_group_is_in_the_order_of_the_whole_list(population, few, order):
    asked = filled(population, 3, [60, 50])
    search = population.archive.search
    whole = [hit.id for hit in search(Query(id=asked), k=400, rank=order)]
    grouped = search(Query(id=asked), k=400, rank=order, group_by="study", others=400)
    assert max(hit.group_size for hit in grouped) > 3
    for hit in grouped:
        places = [whole.index(id) for id in (hit.id, *(other.id for other in hit.others))]
        assert places == sorted(places)


def test_a_shortlist_is_ordered_once_a_search_however_many_groups_there_are(population, few, monkeypatch):
    asked = filled(population, 4, [60, 50])
    calls = []
    monkeypatch.setattr(reranking, "reranked", lambda *given: calls.append(given) or reranked(*given))
    grouped = population.archive.search(Query(id=asked), k=12, rank="neighbours", group_by="study", others=5)
    assert len(grouped) == 12 and len(calls) == 1


def test_several_queries_at_once_have_the_answers_of_each_alone(population, few):
    filled(population, 5, [60, 50])
    queries = [Query(id=id) for id in itertools.islice(population.alive(), 4)]
    for order in get_args(Rank):
        together = population.archive.search_many(queries, k=30, rank=order)
        for query, result in zip(queries, together, strict=True):
            alone = population.archive.search(query, k=30, rank=order)
            assert [hit.id for hit in alone] == [hit.id for hit in result]
            assert alone.familiarity == result.familiarity


def test_blocks_on_all_cores_give_the_same_scan(population, few, monkeypatch):
    from medlike.codes import hamming

    asked = filled(population, 6, [200, 150])
    search = population.archive.search
    for chosen in ({}, {"where": {"modality": "CT"}}, {"radius": 30}):
        whole = [hit.id for hit in search(Query(id=asked), k=50, rank="exact", **chosen)]
        with monkeypatch.context() as patched:
            patched.setattr(hamming, "STEP", 16)
            patched.setattr(hamming, "SMALL", 0)
            assert [hit.id for hit in search(Query(id=asked), k=50, rank="exact", **chosen)] == whole
