"""One hit for several images: patients, and pictures that are nearly the same, against naive twins."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.archive.conftest import Population

from medlike import Archive, Query
from medlike.archive.index import index as index_module
from medlike.archive.search import grouping
from medlike.archive.search.grouping import same_picture
from medlike.errors import QueryError

RELAXED = settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def population(tmp_path, tiny_regional_bundle):
    """An empty archive under a tiny bundle with local codes, to be filled row by row."""
    with Archive.create(tmp_path / "archive", bundle=tiny_regional_bundle) as archive:
        yield Population(archive)


@pytest.fixture
def parts(monkeypatch):
    """Blocks that are shorter than the archive, and an index of several parts."""
    monkeypatch.setattr(grouping, "BLOCK", 20)
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 30)


def pictures(population, number, kinds=8):
    """Local codes of a few pictures, each with some of its bits changed: more or fewer than the limit."""
    random = population.random
    side = 14 * 14 * population.bundle.local_bits
    bases = random.integers(0, 2, (kinds, side))
    rates = random.choice([0.0, 0.03, 0.11, 0.13, 0.3], number)
    bits = bases[random.integers(0, kinds, number)] ^ (random.random((number, side)) < rates[:, None])
    return np.packbits(bits.astype(np.uint8), axis=1)


def same(population, one, other):
    a, b = (np.unpackbits(np.frombuffer(population.rows[id]["cells"], np.uint8)) for id in (one, other))
    return (a == b).mean() >= 0.88


def folded(population, order, block):
    """The naive twin: each image goes to the first before it with the same picture; counted in its own block."""
    leaders, members = [], {}
    for at, id in enumerate(order):
        for leader in leaders:
            if same(population, leader, id):
                if order.index(leader) // block == at // block:
                    members[leader].append(id)
                break
        else:
            leaders.append(id)
            members[id] = []
    return leaders, members


@RELAXED
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    k=st.integers(1, 30),
    rank=st.sampled_from(["content", "exact", "neighbours", "hamming"]),
)
def test_nearly_the_same_pictures_are_one_hit(population, parts, seed, sizes, k, rank):
    population.restart(seed)
    ids = [id for size in sizes for id in population.add(size, cells=pictures(population, size))]
    search = population.archive.search
    order = [hit.id for hit in search(Query(id=ids[0]), k=400, rank=rank)]
    leaders, members = folded(population, order, 20)
    result = search(Query(id=ids[0]), k=k, rank=rank, collapse="duplicates", others=2)
    assert [hit.id for hit in result] == leaders[:k]
    assert [hit.group_size for hit in result] == [1 + len(members[id]) for id in leaders[:k]]
    assert [[other.id for other in hit.others] for hit in result] == [members[id][:2] for id in leaders[:k]]
    together = population.archive.search_many([Query(id=ids[0])] * 2, k=k, rank=rank, collapse="duplicates", others=2)
    assert [hit.as_dict() for hit in together[1]] == [hit.as_dict() for hit in result]


@RELAXED
@given(seed=st.integers(0, 2**32), k=st.integers(1, 12), number=st.integers(1, 80))
def test_each_patient_is_one_hit(population, seed, k, number):
    population.restart(seed)
    patients = [None if at % 9 == 0 else f"{population.random.integers(12):032x}" for at in range(number)]
    asked = population.add(number, patient=patients)[0]
    search = population.archive.search
    groups = {}
    for hit in search(Query(id=asked), k=400):
        groups.setdefault(population.rows[hit.id]["patient"] or hit.id, []).append(hit.id)
    expected = list(groups.values())
    result = search(Query(id=asked), k=k, collapse="patient", others=3)
    assert [hit.id for hit in result] == [group[0] for group in expected][:k]
    assert [hit.group_size for hit in result] == [len(group) for group in expected][:k]
    assert [[other.id for other in hit.others] for hit in result] == [group[1:4] for group in expected][:k]


@pytest.mark.parametrize("collapse", ["patient", "duplicates"])
def test_the_first_k_are_the_start_of_a_longer_list(population, parts, collapse):
    for _ in range(2):
        cells = pictures(population, 40, kinds=20)
        asked = population.add(40, cells=cells, patient=[f"{at % 11:032x}" for at in range(40)])[0]

    def hits(k):
        result = population.archive.search(Query(id=asked), k=k, collapse=collapse)
        return [(hit.rank, hit.id, hit.group_size, [other.id for other in hit.others]) for hit in result]

    longest = hits(100)
    assert max(size for _, _, size, _ in longest) > 1 and len(longest) > 10
    for k in range(1, 30):
        assert hits(k) == longest[:k]


def test_a_receipt_repeats_them(population):
    asked = population.add(40, cells=pictures(population, 40))[0]
    before = population.archive.search(Query(id=asked), k=4, collapse="duplicates")
    population.add(40, cells=pictures(population, 40))
    after = population.archive.repeat(json.loads(json.dumps(before.receipt)))
    assert before.receipt["settings"]["collapse"] == "duplicates"
    assert [hit.as_dict() for hit in after] == [hit.as_dict() for hit in before]
    assert after.receipt == before.receipt and any(hit.group_size > 1 for hit in after)


def test_filters_and_regions_hold_for_duplicates_too(population):
    base = pictures(population, 1)[0]
    ids = population.add(6, cells=[base] * 6, modality=["CT", "MR"] * 3)
    search = population.archive.search
    (hit,) = search(Query(id=ids[0]), collapse="duplicates", where={"modality": "CT"})
    assert hit.group_size == 2 and {hit.id, hit.others[0].id} == {ids[2], ids[4]}
    (hit,) = search(Query(id=ids[0], region=(5, 5, 40, 40)), collapse="duplicates")
    assert hit.group_size == 5 and all(other.box for other in hit.others)


def test_an_archive_without_local_codes_refuses_and_says_what_helps(tmp_path, tiny_bundle):
    with Archive.create(tmp_path / "archive", bundle=tiny_bundle) as archive:
        asked = Population(archive).add(3)[0]
        with pytest.raises(QueryError, match="reindex --bundle"):
            archive.search(Query(id=asked), collapse="duplicates")
        assert len(archive.search(Query(id=asked), collapse="patient")) == 2


def test_pictures_of_another_shape_or_without_cells_are_not_the_same():
    random = np.random.default_rng(0)
    cells = random.integers(0, 2**63, (14, 14, 1)).astype(np.uint64)
    mask = np.ones((14, 14), bool)
    narrow = mask.copy()
    narrow[:, :3] = False  # 79 % of the cells
    others = np.stack([mask, narrow, np.zeros_like(mask)])
    assert same_picture(cells, mask, np.stack([cells] * 3), others).tolist() == [True, False, False]
    assert not same_picture(cells, others[2], cells[None], others[2:]).any()
    # Of 64 bits in each cell, 7 may differ: 88 % of 64 are 56.3.
    for flips, expected in ((7, True), (8, False)):
        other = cells ^ np.uint64((1 << flips) - 1)
        assert same_picture(cells, mask, other[None], mask[None]).tolist() == [expected]
