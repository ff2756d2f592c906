"""A preset becomes a bundle: trained, exported, calibrated, measured; and again after a kill."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from medlike.bundle import Bundle
from medlike.codes.packing import pack
from medlike.datasets import prepare_samples
from medlike.errors import TrainingError
from medlike.inference import Encoder, check
from medlike.inference.torch_runtime import equal_bits, torch_outputs
from medlike.metrics.retrieval import score_codes
from medlike.training.drawn_outliers import KINDS
from medlike.training.plan import TrainingPlan
from medlike.training.train import prepare_run, train_network


def run_folder(bundle):
    return bundle.path.with_name(bundle.path.name + ".run")


@pytest.fixture(scope="module")
def pictures(phantom_data):
    dataset, split, _ = phantom_data
    asked, items = (split.part(dataset, name) for name in ("query", "gallery"))
    return asked, items, *(np.stack([p.pixels for p in prepare_samples(part)]) for part in (asked, items))


def test_a_trained_bundle_can_be_searched_with(trained, pictures):
    asked, _, shown, _ = pictures
    loaded = Bundle.load(trained.path)
    assert (loaded.bits, loaded.preset, loaded.name) == (32, "compact", "medlike-compact-32")
    assert check(loaded) == 1.0
    with Encoder(loaded) as encoder:
        found = encoder.encode(list(shown))
    assert found.code.shape == (len(shown), 4) and found.content.shape == (len(shown), loaded.content_dim)
    assert set(found.modality) <= {"CT", "MR", "US", "XR", None}
    strange = np.array([sample.is_ood for sample in asked])
    assert found.outlier.score[strange].min() > np.median(found.outlier.score[~strange])
    assert found.outlier.is_outlier[strange].mean() > 0.5


def test_a_bundle_says_how_it_was_made(trained, phantom_data):
    split = phantom_data[1]
    made = trained.spec["training"]
    assert made["split"] == split.digest and made["recipe_name"] == "ours" and made["recipe"]["epochs"] == 4
    assert made["classes"]["modality"] == ["CT", "MR", "US", "XR"] == trained.modalities
    assert made["precision"] == "float32"
    assert tuple(trained.spec["content_blocks"]) == trained.content_blocks and len(trained.content_blocks) == 3
    assert len(made["classes"]["label"]) == 8
    assert {name: facts["terms"] for name, facts in made["sources"].items()} == {
        f"phantom-{m}": ["CC0"] for m in ("CT", "MR", "US", "XR")
    }
    assert np.shape(made["similarity_histogram"]) == (2, 20) and np.sum(made["similarity_histogram"]) > 0
    assert trained.spec["labels"]["MR"]["head"] == ["MR_head_lesion", "MR_head_normal"]
    assert 0 < trained.spec["quality"]["map_expected"] <= 1
    outlier = trained.spec["outlier"]
    assert outlier["components"] == ["contrast"] and outlier["calibration_origins"] == 4
    assert set(outlier["kinds_left_out"]) == {"OOD_checks", "OOD_stripes", *KINDS}
    folder = run_folder(trained)
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert (folder / "curves.png").stat().st_size > 1000
    assert len(json.loads((folder / "training.json").read_text())["history"]) == 4


def test_the_runtime_agrees_with_torch_on_the_shipped_weights(trained, pictures):
    asked, items, shown, gallery = pictures
    assert equal_bits(trained, np.concatenate([shown, gallery])) >= 0.995
    with Encoder(trained) as encoder:
        ours = [encoder.encode(list(part)).code for part in (shown, gallery)]
    theirs = [pack(torch_outputs(trained, part)["bits"] > 0) for part in (shown, gallery)]
    relevance = asked.column("label")[:, None] == items.column("label")[None]
    ours_map, theirs_map = (score_codes(*codes, relevance).mean("map_expected") for codes in (ours, theirs))
    assert abs(ours_map - theirs_map) < 0.002


def test_torch_gives_the_outlier_features_that_are_served(trained, pictures):
    shown = pictures[2][:4]
    with Encoder(trained) as encoder:
        ours = encoder.features(list(shown), "outlier_features")
    theirs = torch_outputs(trained, shown, ("outlier_features",))["outlier_features"]
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.slow
def test_killed_and_resumed_is_as_never_killed(trained, phantom_data, small, tmp_path):
    """kill -9 after the first epoch, then --resume: the same weights as the run that was left alone."""
    dataset, split, cache = phantom_data
    split.save(tmp_path / "split.json")
    words = [Path(sys.executable).with_name("medlike"), "train", "compact", "--data", dataset[0].file.parent]
    words += ["--out", tmp_path / "again", "--bits", 32, "--split", tmp_path / "split.json", "--cache", cache]
    words += ["--device", "cpu"]
    for key, value in small.items():
        words += ["--set", f"{key}={value}"]
    words = [str(word) for word in words]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    history = tmp_path / "again.run" / "history.csv"
    while not history.is_file():
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert not (tmp_path / "again").exists()
    ended = subprocess.run([*words, "--resume"], capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    assert "going on after epoch" in ended.stderr
    assert Bundle.load(tmp_path / "again").encoder_digest == trained.encoder_digest


@pytest.mark.slow
def test_training_beats_its_start(phantom_data, small, tmp_path):
    """A trained code puts pictures of a label closer together than the learned rotation it started from."""
    from medlike.training.feed import served_outputs
    from medlike.training.loop import fit, validation_map
    from medlike.training.start import start_code

    dataset, split, cache = phantom_data
    longer = {"epochs": 16, "feature_epochs": 10, "rate": 4e-3, "depth_steps": 200}
    plan = TrainingPlan("compact", 32, changes=small | longer, device="cpu")
    ready = prepare_run([dataset], plan, tmp_path, cache, split, lambda line: None)
    feature = served_outputs(ready.feed, len(ready.train), ("feature",))["feature"]
    sources = [sample.source for sample in ready.train.dataset]
    start_code(ready.network, feature, sources, ready.recipe.code_whitening, 0)
    before = validation_map(ready.feed, ready.train, ready.feed, ready.train, 0)
    fit(ready.network, ready.recipe, ready.train, ready.feed, ready.validation, ready.validation_feed, tmp_path)
    after = validation_map(ready.feed, ready.train, ready.feed, ready.train, 0)
    assert after > before + 0.05


@pytest.mark.slow
def test_later_epochs_leave_the_depth_branch_as_its_steps_trained_it(phantom_data, small, tmp_path):
    from medlike.training.loop import fit

    dataset, split, cache = phantom_data
    found = []
    for epochs in (2, 4):
        folder = tmp_path / str(epochs)
        changes = small | {"epochs": epochs, "feature_epochs": epochs - 1, "average": 0.0}
        plan = TrainingPlan("compact", 32, changes=changes, device="cpu")
        ready = prepare_run([dataset], plan, folder, cache, split, print)
        untrained = {name: value.clone() for name, value in ready.network.depth_branch.state_dict().items()}
        fit(ready.network, ready.recipe, ready.train, ready.feed, ready.validation, ready.validation_feed, folder)
        found.append(ready.network.depth_branch.state_dict())
        assert any(not torch.equal(value, untrained[name]) for name, value in found[-1].items())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(phantom_data, small, tmp_path):
    dataset, split, cache = phantom_data
    wild = small | {"rate": 1e38, "start_rate": 1e-4, "warmup": 2, "feature_epochs": 0, "batch": 40}
    plan = TrainingPlan("compact", 32, changes=wild, device="cpu")
    with pytest.raises(TrainingError, match=r"is not finite .*nan\.json.*lower the rate and --resume"):
        train_network([dataset], tmp_path / "out", plan, split=split, cache=cache)
    note = json.loads((tmp_path / "out.run" / "nan.json").read_text())
    known = {sample.path for sample in dataset}
    assert len(note["paths"]) == 40 and set(note["paths"]) <= known and note["epoch"] > 1
    kept = torch.load(tmp_path / "out.run" / "checkpoint.pt", weights_only=True)
    assert len(kept["history"]) == note["epoch"] - 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_second_stage_adds_the_published_reconstruction_error(trained, phantom_data, small, tmp_path):
    dataset, split, cache = phantom_data
    changes = small | {"decoder": [[8, 8], [8, 8], [8, 8]], "decoder_epochs": 3}
    plan = TrainingPlan("compact", 32, changes=changes, device="cpu")
    work = tmp_path / "run"
    given = {"split": split, "cache": cache, "work": work}
    with pytest.raises(TrainingError, match=r"stage 2 goes on from .*run stage 1 first"):
        train_network([dataset], tmp_path / "out", TrainingPlan("compact", 32, stage=2), **given)
    first = train_network([dataset], tmp_path / "first", plan, **given)
    second = TrainingPlan("compact", 32, changes=changes, stage=2, device="cpu")

    def stop(line):
        if line.startswith("decoder, epoch 2 of"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_network([dataset], tmp_path / "second", second, say=stop, **given)
    resumed = train_network([dataset], tmp_path / "resumed", second, resume=True, **given)
    made = train_network([dataset], tmp_path / "second", second, **given)
    assert made.encoder_digest == resumed.encoder_digest
    assert made.spec["outlier"]["components"] == ["contrast", "reconstruction"]
    errors = [row["validation_error"] for row in made.spec["training"]["decoder"]["history"]]
    assert len(errors) == 3 and errors[-1] < errors[0]
    assert (work / "decoder-curves.png").is_file()
    pictures = [p.pixels for p in prepare_samples(split.part(dataset, "query"))]
    with Encoder(made) as encoder, Encoder(first) as before:
        assert (encoder.features(pictures, "reconstruction_error") > 0).all()
        np.testing.assert_array_equal(encoder.encode(pictures).code, before.encode(pictures).code)


@pytest.mark.slow
def test_end_to_end_without_a_linear_branch(phantom_data, small, tmp_path):
    """The published network in small: no linear path, the whole network trained on pictures."""
    dataset, split, cache = phantom_data
    changes = {key: small[key] for key in ("fusion_outputs", "pixel_width", "pixel_hidden", "branch_width")}
    changes |= {"stem": "efficientnet_lite0", "shallow_stride": 16, "pixel_depth": 2, "pixel_heads": 2}
    changes |= {"pixel_kept": 2, "hash_hidden": 16, "window_width": 8, "fusion_width": 8, "epochs": 1, "batch": 16}
    plan = TrainingPlan("acir", 16, recipe="paper", changes=changes, device="cpu")
    made = train_network([dataset], tmp_path / "acir", plan, split=split, cache=cache)
    assert made.bits == 16 and made.spec["training"]["recipe"]["protocol"] == "end-to-end"
    start = Bundle.load("medlike-itq-64").weights()
    stem = "stem.body._conv_stem.weight"
    assert not np.array_equal(made.weights()[stem], start[stem]), "the stem was to be trained as well"


@pytest.mark.slow
def test_a_source_left_out_takes_no_part_and_is_told_from_the_others(phantom_data, small, tmp_path):
    dataset, split, cache = phantom_data
    plan = TrainingPlan("compact", 32, changes=small, device="cpu", leave_out=("phantom-XR",))
    made = train_network([dataset], tmp_path / "out", plan, split=split, cache=cache)
    assert made.modalities == ["CT", "MR", "US"] and "phantom-XR" not in made.spec["training"]["sources"]
    found = made.spec["quality"]["left_out"]
    assert set(found) == {"phantom-XR"} and found["phantom-XR"]["images"] == 40
    assert "phantom-XR" not in made.spec["quality"]["outliers"]["false_alarms_by_source"]
    assert found["phantom-XR"]["auroc"] > 0.5


@pytest.mark.slow
def test_bfloat16_on_a_cpu_is_said_and_recorded_and_validation_may_search_fewer(phantom_data, small, tmp_path):
    from medlike.training.feed import served_outputs
    from medlike.training.train import first_stage

    dataset, split, cache = phantom_data
    lines = []
    plan = TrainingPlan("compact", 32, changes=small | {"epochs": 2}, device="cpu", precision="bfloat16")
    ready = prepare_run([dataset], plan, tmp_path, cache, split, lines.append)
    assert any(line.startswith("computing in bfloat16 on cpu") for line in lines)
    trained = first_stage(ready, plan, tmp_path, False, lines.append, gallery=10)
    assert np.isfinite([row["hash"] for row in trained.history if "hash" in row]).all()
    assert ready.network.hash_head.direct.weight.dtype == torch.float32
    rows = np.array([3, 1])
    few, every = (served_outputs(ready.feed, which, ("u",))["u"] for which in (rows, len(ready.train)))
    np.testing.assert_allclose(few, every[rows], atol=0.05)
    exact = dataclasses.replace(ready.feed, precision="float32")
    close = served_outputs(exact, rows, ("u",))["u"]
    assert np.abs(few - close).max() > 0 and np.corrcoef(few.ravel(), close.ravel())[0, 1] > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", ["frozen", "end-to-end"])
def test_mixed_precision_on_a_gpu(phantom_data, small, tmp_path, protocol):
    """bfloat16 and channels last: the run ends with finite losses and a bundle that the CPU serves."""
    dataset, split, cache = phantom_data
    plan = TrainingPlan("compact", 32, changes=small | {"protocol": protocol}, device="cuda")
    made = train_network([dataset], tmp_path / "out", plan, split=split, cache=cache)
    assert made.spec["training"]["device"].startswith("cuda") and check(made) == 1.0
    work = run_folder(made)
    resumed = train_network([dataset], tmp_path / "again", plan, split=split, cache=cache, work=work, resume=True)
    assert resumed.encoder_digest == made.encoder_digest


@pytest.mark.parametrize("name", ["medlike-compact-64", "medlike-hmar-64"])
def test_torch_gives_the_bits_of_the_shipped_bundles(name):
    bundle = Bundle.load(name)
    assert equal_bits(bundle, bundle.golden_inputs()) >= 0.995
