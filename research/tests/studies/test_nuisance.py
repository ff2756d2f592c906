"""What altered copies are, how they scatter, and the bundle that knows it."""

from types import SimpleNamespace

import numpy as np
import pytest

from medlike.datasets import read_manifest
from medlike.datasets.splits import make_split
from medlike_research.commands.nuisance_part import with_nuisance_part
from medlike_research.studies import known_item
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.known_item import GOALS, ORDERS, altered, first_originals
from medlike_research.studies.nuisance import drawn_change, factor_of

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60)).astype(np.uint8)


def test_the_scatter_is_that_of_unit_blocks_with_each_source_alike():
    random = np.random.default_rng(0)
    before, after = random.integers(-127, 128, (2, 30, 12)).astype(np.int8)
    sources = ["a"] * 20 + ["b"] * 10
    scatter = np.zeros((12, 12))
    for one, other, source in zip(before.astype(float), after.astype(float), sources, strict=True):
        blocks = [
            (other[part] / np.linalg.norm(other[part]) - one[part] / np.linalg.norm(one[part])) / np.sqrt(2)
            for part in (slice(0, 8), slice(8, 12))
        ]
        scatter += np.outer(np.concatenate(blocks), np.concatenate(blocks)) * 2 / (2 * sources.count(source))
    factor = factor_of(before, after, sources, (8, 4), 12)
    np.testing.assert_allclose(factor @ factor.T, scatter, atol=2e-3)
    few = factor_of(before, after, sources, (8, 4), 3)
    np.testing.assert_allclose(few, factor[:, :3])
    lengths = np.linalg.norm(factor, axis=0)
    assert (np.diff(lengths) <= 1e-9).all()


def test_changes_are_pictures_and_the_same_every_time():
    for change in [drawn_change(number) for number in range(40)]:
        changed = change(PICTURE.copy())
        assert changed.dtype == np.uint8 and changed.ndim == 2 and np.array_equal(changed, change(PICTURE.copy()))
    for name in GOALS:
        odd, even = (altered(name, row)(PICTURE.copy()) for row in (1, 2))
        assert odd.dtype == np.uint8 and not np.array_equal(odd, PICTURE)
        both_ways = name.startswith(("turned", "noise", "brightness", "window"))
        assert np.array_equal(odd, even) != both_ways
    assert np.array_equal(altered("mirrored", 0)(PICTURE), PICTURE[:, ::-1])


def test_an_original_among_equals_counts_as_a_share():
    distances = np.array([[0.0, 0.0, 1.0], [2.0, 1.0, 3.0]])
    originals = np.array([[True, False, True], [False, True, False]])
    assert first_originals(distances, originals).tolist() == [0.5, 1.0]


def result(name, first, relevant, flagged):
    side = {"first": dict.fromkeys(ORDERS, first), "relevant": relevant, "flagged": flagged}
    before = side | {"relevant": [1.0, 1.0, 0.5, 0.5], "relevant_blind": [1.0] * 4, "flagged": [0.0, 0.0, 0.0, 1.0]}
    facts = {"units": [0, 1, 2, 3], "sources": ["a", "a", "b", "b"], "halves": [0, 0, 1, 1]}
    return {"name": name, "before": before, "after": side, **facts}


def test_tables_hold_shares_changes_and_the_worst_source_first():
    done = {"x": result("half size", [1.0, 1.0, 0.0, 1.0], [0.6, 0.6, 0.6, 0.6], [1.0, 0.0, 0.0, 1.0])}
    bench = SimpleNamespace(bundle=SimpleNamespace(name="a bundle"))
    summary = known_item.summarise(bench, done)
    everything, first, second, by_source = summary.tables
    assert "0.750 with it and 1.000 without" in summary.notes[1]
    row = dict(zip(everything[1], everything[2][0], strict=True))
    assert row["goal"] == "99%" and row["neighbours"] == 0.75
    assert row["P@10"] == pytest.approx(0.6) and row["relative change"] == "-20.0%"
    assert row["flagged"] == 0.5 and row["change, points"] == "+25.0"
    assert [table[2][0][2] for table in (first, second)] == [1.0, 0.5]
    assert [row[0] for row in by_source[2]] == ["b", "a"]


@pytest.fixture
def bench(collection, tiny_bundle, tmp_path):
    data = read_manifest(collection, name="small")
    split = make_split(data, np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64))
    return Bench(data, data, split, tmp_path / "cache", BenchSettings(bundle=str(tiny_bundle.path)))


@pytest.mark.slow
def test_a_bundle_that_knows_of_nuisance_has_the_same_codes(bench, tmp_path):
    made = with_nuisance_part(bench, tmp_path / "made")
    assert made.encoder_digest == bench.bundle.encoder_digest and made.digest != bench.bundle.digest
    assert made.nuisance.shape[0] == made.content_dim and made.nuisance.dtype == np.float16 and made.nuisance.any()
