from pathlib import Path

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample, Split
from medlike.errors import DatasetError
from medlike.evaluation.protocols import (
    Arena,
    across_sources,
    everything_arena,
    headline_arena,
    pooled,
    source_oracle,
    sources_to_leave_out,
    within_sources,
)
from medlike.evaluation.representation import Representation


def sample(n: int, label: str, source: str = "s", **facts: object) -> Sample:
    values = {"modality": "CT", "region": "chest", **facts}
    return Sample(path=f"{n}", file=Path(f"{n}"), label=label, coarse=label, source=source, **values)


def arena_of(queries, gallery, units=None, gallery_units=None) -> Arena:
    units = np.arange(len(queries)) if units is None else np.array(units)
    gallery_units = 1000 + np.arange(len(gallery)) if gallery_units is None else np.array(gallery_units)
    return Arena("t", Dataset("q", tuple(queries)), Dataset("g", tuple(gallery)), units, gallery_units)


def codes(*values: int) -> Representation:
    return Representation(codes=np.array(values, np.uint8)[:, None])


def test_relevant_is_the_same_label_and_own_units_take_no_part():
    arena = arena_of([sample(0, "a")], [sample(1, "b"), sample(2, "a"), sample(3, "a")], [7], [1, 2, 7])
    # The copy of the query (unit 7) would come first.
    outcome = pooled(arena, codes(0), codes(1, 3, 0))
    assert outcome.ap.tolist() == [0.5]
    assert [(name, ap.tolist(), units.tolist()) for name, (ap, units) in outcome.by("label").items()] == [
        ("a", [0.5], [7])
    ]


def test_within_source_leaves_out_other_sources_and_sources_without_choice():
    queries = [sample(0, "a", "one"), sample(1, "c", "two")]
    gallery = [sample(2, "a", "one"), sample(3, "b", "one"), sample(4, "b", "three"), sample(5, "c", "two")]
    found = within_sources(arena_of(queries, gallery), codes(0, 0), codes(1, 3, 0, 0))
    assert list(found) == ["one"]
    assert found["one"].ap.tolist() == [1.0]


def test_the_source_oracle_knows_nothing_else():
    queries = [sample(0, "a", "one")]
    gallery = [sample(1, "a", "one"), sample(2, "b", "one"), sample(3, "a", "two"), sample(4, "b", "two")]
    # Expected over the order inside the own source (places 1, 2) and inside the other (places 3, 4).
    expected = np.mean([(p + q) / 2 for p, q in ((1, 2 / 3), (1, 2 / 4), (1 / 2, 2 / 3), (1 / 2, 2 / 4))])
    assert source_oracle(arena_of(queries, gallery)).ap[0] == pytest.approx(expected)


def test_cross_source_hits_come_from_other_sources_and_kin_is_no_other_source():
    queries = Dataset("q", (sample(0, "x", "ward", modality="XR", origin="clinic"),))
    gallery = Dataset("g", (
        sample(1, "x", "ward", modality="XR", origin="clinic"),
        sample(2, "x", "practice", modality="XR", origin="clinic"),
        sample(3, "y", "abroad", modality="XR"),
        sample(4, "z", "scanner", modality="CT"),
    ))  # fmt: skip
    found = across_sources(queries, gallery, codes(0), codes(0, 0, 3, 1), np.arange(1))
    # Own source and its kin are out; the CT image is nearer than the one relevant chest X-ray.
    assert list(found) == ["XR_chest"]
    assert found["XR_chest"].ap.tolist() == [0.5]
    only_kin = Dataset("g", gallery.samples[:2])
    assert across_sources(queries, only_kin, codes(0), codes(0, 0), np.arange(1)) == {}


def test_what_is_apart_takes_part_in_lenient_classes_alone():
    hand, chest = {"modality": "XR", "region": "hand"}, {"modality": "XR", "region": "chest"}
    small = {"source": "small", "apart": True, "origin": "clinic"}
    queries = Dataset("q", (sample(0, "h", "ward", origin="clinic", **hand), sample(1, "c", "abroad", **chest)))
    gallery = Dataset("g", (sample(2, "h", **small, **hand), sample(3, "c", **small, **chest)))
    assert across_sources(queries, gallery, codes(0, 0), codes(1, 0), np.arange(2)) == {}
    found = across_sources(
        queries, gallery, codes(0, 0), codes(1, 0), np.arange(2), ("XR_chest", "XR_hand"), frozenset({"XR_hand"})
    )
    assert list(found) == ["XR_hand"]
    assert found["XR_hand"].ap.tolist() == [1.0]


def test_sources_with_two_labels_of_two_images_can_be_left_out():
    rows = [sample(n, "ab"[n % 2], "ward") for n in range(4)] + [sample(4, "a", "practice"), sample(5, "b", "practice")]
    assert sources_to_leave_out(Dataset("d", tuple(rows))) == ("ward",)


def test_headlines_are_counted_in_the_whole_collection_and_training_images_can_join_the_gallery():
    rows = [sample(n, "a" if n < 40 else "b") for n in range(79)] + [sample(100, "a", "small", apart=True)]
    data = Dataset("d", tuple(rows))
    parts = ["train", "gallery", "query", "validation", "calibration"]
    split = Split("s", {s.path: parts[n % 5] for n, s in enumerate(rows)}, {s.path: n for n, s in enumerate(rows)}, {})
    arena = headline_arena(data, split)
    assert set(arena.queries.column("label")) == {"a"} and len(arena.queries) == 8 and len(arena.gallery) == 8
    assert len(headline_arena(data, split, train_in_gallery=True).gallery) == 16
    with pytest.raises(DatasetError, match="no label with enough images"):
        headline_arena(Dataset("d", tuple(rows[:10])), split)


def test_everything_against_everything_leaves_out_the_query_itself():
    data = Dataset("d", (sample(0, "a"), sample(1, "a"), sample(2, "b")))
    arena = everything_arena(data, np.array([0, 1, 2]))
    outcome = pooled(arena, codes(0, 0, 0), codes(0, 0, 0))
    assert outcome.ap[:2].tolist() == [0.75, 0.75]
    assert outcome.scores.without_relevant == 1
