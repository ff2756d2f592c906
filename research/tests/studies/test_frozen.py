"""Trained cells on a small collection with a random stem: what is cached, what changes, what is measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medlike.datasets import read_manifest
from medlike.datasets.splits import make_split
from medlike.errors import DatasetError
from medlike.evaluation import floors
from medlike_research.studies import methods
from medlike_research.studies.bench import Bench, BenchSettings
from medlike_research.studies.frozen import RIVAL, Frozen, pooled_features, train_cell
from medlike_research.studies.measured import comparison_table, measure, method_table
from medlike_research.studies.stem import _agreement, tune_stem

SMALL = {"linear": 16, "depth_outputs": 8, "depth_hidden": 16}


@pytest.fixture(scope="module")
def bench(collection, tmp_path_factory):
    from safetensors.torch import save_file

    from medlike.models.stems import Stem
    from medlike_research.studies.stem import bare_state

    work = tmp_path_factory.mktemp("work")
    stem = work / "random.safetensors"
    torch.manual_seed(0)
    state = bare_state(Stem("efficientnet_lite0_blocks"))
    save_file({k: v.contiguous() for k, v in state.items()}, str(stem))
    data = read_manifest(collection, name="small")
    split = make_split(data, np.random.default_rng(0).integers(0, 2**63, len(data), dtype=np.uint64))
    return Bench(data, data, split, work, BenchSettings(stem=str(stem), bits=(16,), seeds=(0,), epochs=2))


@pytest.mark.slow
def test_methods_share_maps_and_differ_in_their_codes(bench):
    frozen = Frozen(bench, "untouched")
    found = {name: train_cell(frozen, name, 16, 0, SMALL, {**RIVAL, "batch": 32}) for name in ("sch", "csq")}
    maps = {p.name for p in (bench.work / "maps").glob("maps-*")}
    assert len(maps) == 4 + 3  # four views of the train part, one of validation, queries, gallery
    again = train_cell(frozen, "sch", 16, 0, SMALL, {**RIVAL, "batch": 32})
    assert {p.name for p in (bench.work / "maps").glob("maps-*")} == maps
    np.testing.assert_array_equal(again.query_u, found["sch"].query_u)
    assert (found["sch"].query_u != found["csq"].query_u).any()
    assert found["csq"].facts["epochs"] == 2  # those asked for, not the 24 that rivals get
    assert found["sch"].facts["histogram"] and not found["csq"].facts["histogram"]
    results = {n: [measure(bench, *o.codes(), method=n, seed=0)] for n, o in found.items()}
    _, head, rows = method_table(bench, results)
    assert [r[0] for r in rows] == ["sch", "csq", "source-only oracle"] and all(len(r) == len(head) for r in rows)
    _, head, rows = comparison_table(bench, results, "sch")
    assert [r[:2] for r in rows] == [["csq", "pooled"], ["csq", "within source"]] and len(rows[0]) == len(head)


def test_without_a_stem_the_option_is_named(bench):
    bare = replace(bench, settings=replace(bench.settings, stem=None))
    with pytest.raises(DatasetError, match="--stem"):
        Frozen(bare).stem_file()


def test_cells_of_the_methods_study_start_with_64_bits(bench):
    wide = replace(bench, settings=replace(bench.settings, bits=(16, 64), seeds=(0, 1)))
    names = [c.name for c in methods.cells(wide)]
    trained = [n for n in names if n.endswith(("-0", "-1"))]
    assert trained[0] == "ours-64-0" and "csq-16-1" in names and len(set(names)) == len(names)


@pytest.mark.slow
def test_floors_stand_on_the_last_block_as_it_is_and_on_every_depth_alike(bench, monkeypatch):
    bench = replace(bench, settings=replace(bench.settings, limit=24))
    found = pooled_features(Frozen(bench, "untouched"))
    last, alike = found["last block"][0], found["every depth"][0]
    assert last.shape[1] < alike.shape[1] and last.std(axis=0).min() < last.std(axis=0).max() / 2
    first = alike[:, :16].std(axis=0)
    np.testing.assert_allclose(first, first[0], rtol=1e-3)
    seen, fit = [], floors.fit_itq
    monkeypatch.setattr(floors, "fit_itq", lambda *a, sources: seen.append(sources) or fit(*a, sources=sources))
    (cell,) = [c for c in methods.cells(bench) if c.name == "floor-imagenet-16"]
    parts = cell.run()["parts"]
    kinds = ("random projection of", "ITQ on", "float", "discriminant on")
    assert [p["method"] for p in parts] == [
        f"{kind} ImageNet features, {depths}" for depths in ("last block", "every depth") for kind in kinds
    ]
    assert seen == [bench.part("train").column("source").tolist()] * 2


@pytest.mark.slow
def test_a_stem_is_tuned_once_by_labels_or_after_agreement_of_views(bench):
    said = []
    few = Frozen(replace(bench, settings=replace(bench.settings, limit=8), say=said.append))
    given = Path(bench.settings.stem)
    tuned = tune_stem(few, given, 1)
    assert tune_stem(few, given, 1) == tuned  # kept
    before, after = load_file(given), load_file(tuned)
    assert before.keys() == after.keys() and any(not before[k].equal(after[k]) for k in before)
    assert tune_stem(few, None, 1, "self", 1) != tuned
    phases = [line.split(", step")[0] for line in said if line.startswith("stem, ")]
    assert phases == ["stem, cross-entropy", "stem, self-supervised", "stem, cross-entropy"]


def test_views_of_a_picture_agree_where_they_are_each_others_nearest():
    pictures = torch.eye(4)
    assert _agreement(torch.cat([pictures, pictures]), None) < 0.1
    assert _agreement(torch.cat([pictures, pictures.roll(1, 0)]), None) > 4
