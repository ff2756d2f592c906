import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlike.datasets import PARTS, Dataset, Sample, Split, find_units, make_split
from medlike.datasets.near_duplicates import components, near_pairs
from medlike.errors import DatasetError


def sample(n: int, **facts: str) -> Sample:
    values = {"label": "a", "coarse": "a", "source": "s", **facts}
    return Sample(path=f"i/{n}.png", file=Path(f"/nowhere/{n}.png"), **values)


def naive_components(hashes: np.ndarray, distance: int) -> list[frozenset[int]]:
    n = len(hashes)
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= distance
    seen: set[int] = set()
    found = []
    for start in range(n):
        if start in seen:
            continue
        stack, group = [start], set()
        while stack:
            i = stack.pop()
            if i not in group:
                group.add(i)
                stack += np.flatnonzero(near[i]).tolist()
        seen |= group
        found.append(frozenset(group))
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_near_duplicates_agree_with_all_pairs(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    distance = data.draw(st.integers(0, 7))
    centres = rng.integers(0, 2**63, data.draw(st.integers(1, 6)), dtype=np.uint64)
    hashes = []
    for _ in range(data.draw(st.integers(0, 60))):
        value = int(rng.choice(centres))
        for bit in rng.choice(64, rng.integers(0, 10), replace=False):
            value ^= 1 << int(bit)
        hashes.append(value)
    hashes = np.array(hashes, dtype=np.uint64)
    labels = components(len(hashes), near_pairs(hashes, distance))
    mine = {frozenset(np.flatnonzero(labels == c).tolist()) for c in set(labels.tolist())}
    assert mine == set(naive_components(hashes, distance))


def test_every_bit_of_the_hash_is_searched():
    base = 0x0123_4567_89AB_CDEF
    for first in range(64):
        flips = [(first + 11 * k) % 64 for k in range(6)]
        other = base
        for bit in flips:
            other ^= 1 << bit
        assert len(near_pairs(np.array([base, other], np.uint64), 6)) == 1
        assert len(near_pairs(np.array([base, other], np.uint64), 5)) == 0


def test_a_hundred_thousand_images_are_grouped_in_seconds():
    import time

    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 100_000, dtype=np.uint64)
    hashes[50_000:60_000] = hashes[:10_000] ^ np.uint64(0b1010101)
    start = time.process_time()
    pairs = near_pairs(hashes)
    assert time.process_time() - start < 20
    assert len(components(len(hashes), pairs)) - len(np.unique(components(len(hashes), pairs))) >= 10_000


def test_groups_count_within_their_source_only_and_empty_groups_join_nothing():
    data = Dataset("d", (
        sample(0, group="p"), sample(1, group="p"), sample(2, group="p", source="other"),
        sample(3), sample(4),
    ))  # fmt: skip
    hashes = np.array([0, 0xFFFF, 0xFFFF0000, 0xFFFF00000000, 0xFFFF000000000000], np.uint64)
    assert find_units(data, hashes).tolist() == [0, 0, 1, 2, 3]


def test_units_chain_groups_and_near_duplicates():
    data = Dataset("d", (sample(0, group="p"), sample(1, group="q"), sample(2, group="q"), sample(3)))
    hashes = np.array([0, 0b111111, 0xFFFF0000, 0xFFFF0000 ^ 0b1111111], np.uint64)
    assert find_units(data, hashes).tolist() == [0, 0, 0, 1]


def big_dataset() -> tuple[Dataset, np.ndarray]:
    rng = np.random.default_rng(3)
    rows = []
    for n in range(1200):
        source = f"s{n % 3}"
        label = f"{source}_{int(rng.integers(0, 4))}"
        group = f"p{int(rng.integers(0, 300))}"
        rows.append(sample(n, source=source, label=label, coarse=label, group=group))
    rows += [sample(2000 + n, label="OOD_x", coarse="OOD_x", source="ood", task="ood") for n in range(100)]
    return Dataset("big", tuple(rows)), rng.integers(0, 2**63, len(rows), dtype=np.uint64)


def test_a_split_has_disjoint_units_near_the_shares_and_is_stratified():
    data, hashes = big_dataset()
    split = make_split(data, hashes)
    units = split.units(data)
    parts = np.array([split.part_of[s.path] for s in data])
    assert all(len(set(parts[units == u])) == 1 for u in np.unique(units))
    inside = np.array([not s.is_ood for s in data])
    for part, share in zip(PARTS, (0.5, 0.1, 0.1, 0.2, 0.1), strict=True):
        assert abs((parts[inside] == part).mean() - share) < 0.01
    labels = data.column("label")
    for label in np.unique(labels[inside]):
        of_label = parts[labels == label]
        for part, share in zip(PARTS, (0.5, 0.1, 0.1, 0.2, 0.1), strict=True):
            assert abs((of_label == part).mean() - share) < 0.05
    ood = parts[~inside]
    assert sorted(np.unique(ood)) == ["calibration", "query"]
    assert (ood == "query").sum() == 50


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    data, hashes = big_dataset()
    assert make_split(data, hashes).digest == make_split(data, hashes).digest
    assert make_split(data, hashes).digest != make_split(data, hashes, seed=1).digest


def test_a_split_file_round_trips_and_notices_changes(tmp_path):
    data, hashes = big_dataset()
    split = make_split(data, hashes)
    split.save(tmp_path / "s.json")
    again = Split.load(tmp_path / "s.json")
    assert again == split
    assert again.digest == split.digest
    assert sum(len(again.part(data, p)) for p in PARTS) == len(data)
    content = json.loads((tmp_path / "s.json").read_text())
    content["query"].append(content["train"].pop())
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="digest"):
        Split.load(tmp_path / "s.json")
    (tmp_path / "s.json").write_text("[]")
    with pytest.raises(DatasetError, match="not a split"):
        Split.load(tmp_path / "s.json")


def test_a_joint_split_serves_each_collection_alone():
    joint = Split("j", {"dev/i/0.png": "query"}, {"dev/i/0.png": 4}, {})
    alone = Dataset("dev", (Sample(path="i/0.png", file=Path("x"), collection="dev"),))
    assert len(joint.part(alone, "query")) == 1
    assert joint.units(alone).tolist() == [4]


def test_wrong_parts_shares_and_samples_are_named():
    data, hashes = big_dataset()
    split = make_split(data, hashes)
    with pytest.raises(DatasetError, match="no part"):
        split.part(data, "test")
    with pytest.raises(DatasetError, match="sum to 1"):
        make_split(data, hashes, shares={**dict.fromkeys(PARTS, 0.3)})
    with pytest.raises(DatasetError, match="not in split"):
        split.units(Dataset("d", (sample(9999),)))
    with pytest.raises(DatasetError, match="hashes"):
        make_split(data, hashes[:3])


def test_components_are_those_of_scipy_numbered_by_first_appearance():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    random = np.random.default_rng(0)
    chain = random.permutation(3_000)
    graphs = [(count, random.integers(0, count, (edges, 2))) for count, edges in ((1, 0), (9, 5), (4_000, 2_500))]
    for count, pairs in [*graphs, (3_000, np.stack([chain[1:], chain[:-1]], axis=1))]:
        graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        _, wanted = connected_components(graph, directed=False)
        names = {label: number for number, label in enumerate(dict.fromkeys(wanted))}
        labels = components(count, pairs)
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, [names[label] for label in wanted])
    assert len(components(0, np.zeros((0, 2), np.int64))) == 0
