"""The study of the published networks, at toy size: all stages run, a killed run goes on, and the page says it all."""

from dataclasses import replace

import numpy as np
import pytest

from medlike.datasets import read_manifest
from medlike.datasets.splits import make_split
from medlike.errors import DatasetError
from medlike_research.studies import find_study, published
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.runner import run_study


@pytest.fixture(scope="module")
def bench(collection, tmp_path_factory):
    from safetensors.torch import save_file

    from medlike.models.presets import COMPACT, PRESETS, NetworkSettings
    from medlike.models.stems import Stem
    from medlike_research.studies.stem import bare_state

    work = tmp_path_factory.mktemp("published")
    stem = work / "random.safetensors"
    save_file({k: v.contiguous() for k, v in bare_state(Stem("efficientnet_lite0_blocks")).items()}, str(stem))
    data = read_manifest(collection, name="small")
    split = make_split(data, np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64))
    acir = NetworkSettings(
        stem="efficientnet_lite0_blocks", shallow_stride=16, window_heads=2, window_width=8, fusion_heads=2,
        fusion_width=8, fusion_outputs=16, pixel_width=16, pixel_depth=2, pixel_heads=2, pixel_hidden=16,
        pixel_kept=2, branch_width=16, hash_hidden=8,
    )  # fmt: skip
    regional = {"tap_heads": True, "modality_aware": True, "local_bits": 64, "cell_hidden": 8, "cell_width": 8}
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(PRESETS, "acir", acir)
        patched.setitem(PRESETS, "hmar", replace(acir, **regional))
        patched.setitem(PRESETS, "compact", replace(COMPACT, linear=16, depth_outputs=8, depth_hidden=16))
        patched.setattr(published, "BITS", 16)
        quick = {"cell_epochs": 1, "cell_steps": 2, "head_steps": 8, "gate_steps": 2}
        patched.setattr(published, "SHORTER", published.SHORTER | quick)
        yield Bench(data, data, split, work, BenchSettings(stem=str(stem), seeds=(0,), epochs=1, limit=30))


@pytest.mark.slow
def test_the_published_networks_are_trained_and_shown_beside_the_small_one(bench, tmp_path):
    lines = []
    bench = replace(bench, say=lines.append)
    summary = run_study(find_study("published"), bench, tmp_path, ["acir-*", "hmar-*"], say=lines.append)
    tables = {title: (head, rows) for title, head, rows in summary.tables}
    methods = [row[0] for row in tables["Retrieval on the headline labels"][1]]
    assert methods[:2] == ["ACIR as published", "ACIR as published, content (float features)"]
    assert [row[3:5] for row in tables["Training"][1]] == [["frozen", 1]] * 2
    assert all(row[7] in ("bfloat16", "float32") for row in tables["Training"][1])
    assert [row[:2] for row in tables["Curves"][1]] == [["ACIR as published", 1], ["HMAR as published", 1]]
    assert tables["Regional codes"][1][0][0] == "HMAR as published"
    assert "1 epochs and not 150" in summary.notes[0]
    page = (tmp_path / "report.html").read_text()
    assert "preset" not in page and "medlike study published --out DIR" in page
    # A cell that was killed behind its last epoch goes on from there.
    (tmp_path / "cells" / "acir-0.json").unlink()
    lines.clear()
    again = run_study(find_study("published"), bench, tmp_path, ["acir-*"], say=lines.append)
    assert any("going on after epoch 1 of 1" in line for line in lines)
    assert again.tables[0][2][0][4] == tables["Retrieval on the headline labels"][1][0][4]


def test_without_epochs_the_published_schedule_runs(bench):
    from medlike_research.studies.published import plan_of

    whole = replace(bench, settings=replace(bench.settings, epochs=None, limit=None))
    plan = plan_of(whole, "acir", 0)
    _, recipe = plan.settings()
    assert not plan.changes and plan.precision in ("auto", "bfloat16")
    assert (recipe.protocol, recipe.epochs, recipe.batch, recipe.warmup) == ("end-to-end", 150, 256, 10)
    short = plan_of(replace(whole, settings=replace(whole.settings, epochs=10)), "hmar", 0)
    assert (short.settings()[1].protocol, short.settings()[1].epochs) == ("frozen", 10)
    compact = plan_of(whole, "compact", 0)
    assert (compact.recipe, compact.stem, compact.precision) == ("ours", None, "auto")
    with pytest.raises(DatasetError, match="name the file, --stem"):
        plan_of(replace(whole, settings=replace(whole.settings, stem=None)), "acir", 0)
