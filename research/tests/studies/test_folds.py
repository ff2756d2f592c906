"""Folds of sources: who is left out, that the left-out take no part, and what is reported of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample, read_manifest
from medlike.datasets.labels import kin_of
from medlike.datasets.splits import make_split
from medlike.errors import QueryError
from medlike_research.studies import adaptation, find_study, folds
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.fold_tables import fold_summary
from medlike_research.studies.runner import run_study


def sources(**sizes):
    samples = []
    for source, (modality, count, *known) in sizes.items():
        for n in range(count):
            facts = {"source": source, "label": "x", "modality": modality, **dict(known)}
            samples.append(Sample(f"{source}/{n}", Path(f"{n}.png"), **facts))
    return Dataset("made", tuple(samples))


def test_every_source_is_left_out_once_and_kin_together():
    data = sources(
        ward=("XR", 60, ("origin", "clinic")), practice=("XR", 300, ("origin", "clinic")),
        a=("CT", 200), b=("CT", 180), c=("CT", 150),
        hands=("XR", 90, ("origin", "hands")), small=("XR", 3000, ("origin", "hands"), ("apart", True)),
    )  # fmt: skip
    dealt = folds.deal_sources(data, 3)
    assert Counter(s for fold in dealt for s in fold) == Counter(set(data.column("source")))
    for fold in dealt:
        assert all(kin_of(s, data) <= fold for s in fold)
        assert len(fold & {"a", "b", "c"}) == 1  # no fold leaves out most of a modality
    assert dealt == folds.deal_sources(data, 3)
    with pytest.raises(QueryError, match="give 2 to 5"):
        folds.deal_sources(data, 6)


def test_a_collection_of_few_sources_has_fewer_folds_or_none(bench):
    few = replace(bench, settings=replace(bench.settings, folds=3))
    assert [cell.name for cell in folds.fold_cells(few)] == ["fold-0", "fold-1"]
    alone = replace(few, wide=few.wide.where(lambda s: s.source == "north"))
    assert folds.fold_cells(alone) == []


@pytest.fixture(scope="module")
def bench(collection, tmp_path_factory):
    from safetensors.torch import save_file

    from medlike.models.presets import COMPACT, PRESETS
    from medlike.models.stems import Stem
    from medlike_research.studies.stem import bare_state

    work = tmp_path_factory.mktemp("folds")
    stem = work / "random.safetensors"
    save_file({k: v.contiguous() for k, v in bare_state(Stem("efficientnet_lite0_blocks")).items()}, str(stem))
    data = read_manifest(collection, name="small")
    split = make_split(data, np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64))
    with pytest.MonkeyPatch.context() as patched:
        small = replace(COMPACT, linear=16, depth_outputs=8, depth_hidden=16)
        patched.setitem(PRESETS, "small", small)
        patched.setattr(folds, "BITS", 16)
        settings = BenchSettings(stem=str(stem), preset="small", seeds=(0,), epochs=2, limit=25, folds=2)
        yield Bench(data, data, split, work, settings)


@pytest.mark.slow
def test_folds_train_without_their_sources_and_are_reported(bench, tmp_path):
    seen = []
    summary = run_study(find_study("cross-domain"), bench, tmp_path, ["fold-*"], say=seen.append)
    overview, by_source, tests = summary.tables
    methods = [row[0] for row in overview[2]]
    assert methods[0] == folds.CODES and methods[-1] == folds.ORACLE and folds.DISCRIMINANT in methods
    assert [row[:2] for row in by_source[2]] == [["north", 0], ["south", 1]]
    assert all(0 < value <= 1 for row in by_source[2] for value in row[4 : 4 + len(methods) - 1])
    assert {row[1] for row in tests[2]} == {
        "within each source, mean over sources", "unknown sources alone", "everything together",
    }  # fmt: skip
    assert any("keep" in note for note in summary.notes) and "fold 0: north" in " ".join(summary.notes)
    # What was kept of the trainings is enough to say what codes fitted to an archive would do.
    ways, _, worst, swept = run_study(find_study("adaptation"), bench, tmp_path / "adapted", say=seen.append).tables
    assert {row[0] for row in ways[2]} >= {adaptation.TRAINED, adaptation.FITTED, adaptation.DEFAULT}
    assert all(0 < row[1] <= 1 for row in (*ways[2], *swept[2])) and {row[0] for row in worst[2]} == {"north", "south"}
    # Another run of the same cell reads what was kept and says the same.
    found = folds.fold_cells(bench)[0].run()
    assert found["left_out"] == ["north"] and found["sources"] == 1 and found["images"] < 75
    assert set(found["protocols"]) == {"within north", "unknown alone", "everything"}


def test_what_is_fitted_beside_a_fold_never_saw_its_sources(bench):
    assert {s.source for s in folds.collection(bench)} == {"north", "south", "web"}
    thin = replace(bench, settings=replace(bench.settings, limit=3))
    counts = Counter((s.source, bench.split.part_of[s.path]) for s in folds.collection(thin))
    assert max(counts.values()) == 3 and len(counts) > 8


def result(fold, source, ap, other):
    def found(values):
        return {"ap": values, "units": list(range(len(values))), "queries": len(values), "without_relevant": 0}

    methods = (folds.CODES, folds.FEATURES, folds.ROTATED, folds.UNTOUCHED, folds.UNTOUCHED_ROTATED)
    values = dict.fromkeys(methods, other) | {folds.CODES: ap}
    lonely = f"lonely-{fold}"
    protocols = {p: {m: found(v) for m, v in values.items()} for p in (f"within {source}", "unknown alone")}
    return {
        "fold": fold, "seed": 0, "left_out": [source, lonely], "sizes": {source: len(ap), lonely: 4},
        "images": 10, "sources": 2, "bits": dict.fromkeys(methods, 16), "bytes": dict.fromkeys(methods, 2),
        "protocols": protocols,
    }  # fmt: skip


def test_sources_count_alike_and_notes_follow_from_the_figures():
    done = [result(0, "big", [0.8] * 30, [0.4] * 30), result(1, "small", [0.2] * 5, [0.4] * 5)]
    summary = fold_summary(done)
    mine = next(row for row in summary.tables[0][2] if row[0] == folds.CODES)
    assert mine[4] == pytest.approx(0.5)  # the mean of two sources
    assert mine[6] == pytest.approx((0.8 * 30 + 0.2 * 5) / 35)  # of all queries
    assert any("keep 125 %" in note for note in summary.notes)
    assert any(note.startswith("Within lonely-0, lonely-1 there is nothing") for note in summary.notes)
    unknown = next(row for row in summary.tables[2][2] if row[:2] == [folds.FEATURES, "unknown sources alone"])
    assert unknown[2] < 0 and unknown[4] == f"{100 * (0.4 / mine[6] - 1):+.1f} %"
