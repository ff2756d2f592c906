"""The benches measure, agree with their peers, and print what they promise."""

import numpy as np
import pytest

from medlike.evaluation.speed import gallery, hamming, regions, timing
from medlike.evaluation.speed.population import populated


def names(found):
    return [line.rsplit(" ", 1)[0] for line in found.printed()]


def test_hamming_prints_its_lines():
    pytest.importorskip("faiss")
    found = hamming.bench(quick=True, images=9000, tell=lambda text: None)
    assert {"ratio hamming-1", "ratio hamming-64", "ratio hamming-filter-0.1", "ratio hamming-filter-10",
            "ratio hamming-filter-90", "seconds hamming-content", "seconds hamming-ties", "seconds hamming-16",
            "ratio hamming-1-128", "ratio hamming-1-256", "ratio hamming-1-512"} <= set(names(found))  # fmt: skip
    assert all(value > 0 for _, value in found.lines.values())
    assert found.as_dict()["machine"]["cores"] >= 1
    assert found.facts["bandwidth"]["read_gb_s"] > 0


def test_regions_prints_its_lines_and_finds_the_region_it_took():
    found = regions.bench(quick=True, images=3000, tell=lambda text: None)
    assert {"seconds regions-1", "seconds regions-8", "seconds regions-24", "ratio regions-numpy"} <= set(names(found))


@pytest.mark.parametrize("kind", gallery.KINDS)
def test_nearest_regions_equal_a_full_sort(kind, monkeypatch):
    monkeypatch.setattr(regions, "FIRST", 64)
    held = gallery.cells(kind, 700)
    masks = np.full((700, 25), 255, np.uint8)
    template = regions.Template.of(held[350, 4:7, 6:10])
    every = regions.match(held, masks, template, engine="numpy")
    expected = sorted(zip(every.distance.tolist(), every.rows.tolist(), strict=True))[:50]
    assert regions.nearest(held, masks, template) == expected
    assert expected[0] == (0.0, 350)


def test_clustered_codes_collide_and_uniform_ones_do_not():
    clustered, uniform = (gallery.codes(kind, 20_000, 64).view(np.uint64)[:, 0] for kind in ("clustered", "uniform"))
    counts = np.unique(clustered, return_counts=True)[1]
    assert counts.max() >= 2000
    assert len(np.unique(uniform)) == 20_000


def test_a_populated_archive_answers_like_any_other(tmp_path):
    codes = gallery.codes("clustered", 500, 64)
    with populated(tmp_path, codes, ["a", "b"] * 250) as archive:
        result = archive.search(archive.stored_id(8), "a", 20)
        assert len(result) == 20
        assert all(hit.metadata["label"] == "a" for hit in result)
        near = np.bitwise_count(codes[8] ^ codes[::2]).sum(axis=1)
        near[4] = 99
        assert [hit.distance for hit in result] == sorted(near.tolist())[:20]
        assert archive.archive.verify() is not None


def test_rivals_take_turns():
    order = []
    spent = timing.rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 4
    assert set(spent) == {"a", "b"}


def test_figures_say_what_they_are_compared_with():
    found = timing.Figures("x", {})
    found.ratio("r", 1.0, 4.0, "peer")
    found.seconds("s", 0.5)
    assert found.printed() == ["ratio r 0.25", "seconds s 0.5"]
    assert found.as_dict()["facts"]["r"]["peer_is"] == "peer"
