"""The untrained bundle, made from a small made-up collection with a random stem."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, make_split, read_manifest
from medlike.errors import TrainingError
from medlike.imaging import letterbox
from medlike.inference import Encoder
from medlike.models.efficientnet_lite import EfficientNetLite
from medlike.training.drawn_outliers import KINDS, draw_outliers
from medlike.training.itq import RotationSettings, train_itq

SMALL = RotationSettings(bits=16, content=12, features=10)


def draw(kind, random):
    """A disc, stripes or a noise field: three kinds of picture that even a random stem tells apart."""
    y, x = np.mgrid[0:64, 0:64] - random.uniform(20, 44, 2)[:, None, None]
    if kind == 0:
        picture = 200.0 * (np.hypot(y, x) < random.uniform(8, 24))
    elif kind == 1:
        picture = 120 + 100 * np.sin(x * random.uniform(0.3, 1.2))
    else:
        picture = random.uniform(0, 255, (64, 64))
    return np.clip(picture + random.normal(0, 6, (64, 64)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collection")
    random = np.random.default_rng(0)
    kinds = (("CT", "disc"), ("US", "stripes"), ("MR", "noise"))
    rows = []
    for number in range(450):
        modality, label = kinds[number % 3]
        name = f"{number:04d}.png"
        Image.fromarray(draw(number % 3, random)).save(folder / name)
        licence = "CC BY-NC 4.0" if number < 3 else "CC BY 4.0"
        rows.append([name, label, f"source-{label}", f"p{number}", modality, "chest", label, licence])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "source", "group", "modality", "region", "label", "licence"])
        writer.writerows(rows)
    return read_manifest(folder)


@pytest.fixture(scope="module")
def split(collection):
    # Hashes that are far apart: the made-up pictures of a kind would count as near-duplicates.
    hashes = np.random.default_rng(1).integers(0, 2**63, len(collection)).astype(np.uint64)
    return make_split(collection, hashes)


@pytest.fixture(scope="module")
def stem(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("stem") / "random.safetensors"
    state = EfficientNetLite().state_dict()
    save_file({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Keeps the features of the stem between tests."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.slow
def test_a_bundle_is_made_measured_and_runs(collection, split, stem, cache, tmp_path):
    said = []
    made = train_itq(
        [collection], tmp_path / "b", stem, settings=SMALL, split=split, cache=cache, say=said.append
    )
    assert (made.name, made.bits, made.content_dim) == ("medlike-itq-16", 16, 12)
    assert made.spec["content_blocks"] == [12]
    assert made.modalities == ["CT", "MR", "US"]
    used = [s for s in split.part(collection, "train", "validation") if "NC" not in s.licence]
    assert made.spec["training"]["images"] == len(used)
    outlier = made.spec["outlier"]
    known = [s for s in split.part(collection, "train", "validation", "calibration") if "NC" not in s.licence]
    assert outlier["components"] == ["contrast"] and outlier["reference_images"] == len(known)
    # Every source has a modality of its own.
    assert outlier["calibration_origins"] == 3 and len(outlier["calibrated_on_units"]) == 3
    assert set(outlier["outlier_kinds"]) == set(KINDS) == set(outlier["kinds_left_out"])
    quality = made.spec["quality"]
    assert quality["map_expected"] > 0.5  # chance is a third
    assert quality["query"] == len(split.part(collection, "query"))
    strange = [letterbox(pictures[0])[0] for pictures in draw_outliers([1]).values()]
    with Encoder(Bundle.load(tmp_path / "b")) as encoder:
        found = encoder.encode(strange)
        usual = encoder.encode([s.file for s in split.part(collection, "query")])
    assert found.outlier is not None and found.code.shape == (len(KINDS), 2)
    assert np.median(found.outlier.score) > np.quantile(usual.outlier.score, 0.9)
    again = train_itq(
        [collection], tmp_path / "b2", stem, settings=SMALL, split=split, cache=cache, say=said.append
    )
    assert again.digest == made.digest
    assert any("features of" in line and "from" in line for line in said)


@pytest.mark.slow
def test_sources_that_share_their_modalities_are_left_out_whole(collection, split, stem, cache, tmp_path):
    mixed = tuple(replace(s, source=("east", "west")[n % 2]) for n, s in enumerate(collection))
    made = train_itq([Dataset(collection.name, mixed)], tmp_path / "b", stem, settings=SMALL, split=split, cache=cache)
    outlier = made.spec["outlier"]
    assert outlier["calibration_origins"] == 2 and "calibrated_on_units" not in outlier
    known = split.part(collection, "train", "validation", "calibration").where(lambda s: "NC" not in s.licence)
    assert outlier["calibration_units"]["pooled"] == len(np.unique(split.units(known)))


@pytest.mark.slow
def test_a_single_source_calibrates_on_its_calibration_part(collection, split, stem, cache, tmp_path):
    alike = Dataset(collection.name, tuple(replace(s, source="one") for s in collection))
    made = train_itq([alike], tmp_path / "b", stem, settings=SMALL, split=split, cache=cache)
    outlier = made.spec["outlier"]
    calibrating = split.part(alike, "calibration").where(lambda s: "NC" not in s.licence)
    assert outlier["calibrated_on_units"] == ["one"] and outlier["calibration_origins"] == 1
    assert outlier["calibration_units"]["pooled"] == len(np.unique(split.units(calibrating)))
    with Encoder(made) as encoder:
        usual = encoder.encode([s.file for s in split.part(alike, "query")]).outlier
    assert usual.is_outlier.mean() < 0.15


def test_wrong_requests_are_refused_before_any_work(collection, split, stem, tmp_path):
    with pytest.raises(TrainingError, match="12 bits; give a multiple of 8"):
        train_itq([collection], tmp_path / "b", stem, settings=RotationSettings(bits=12), split=split)
    with pytest.raises(TrainingError, match=r"no stem weights at .*nothing; give the safetensors file"):
        train_itq([collection], tmp_path / "b", tmp_path / "nothing", split=split)
    assert not (tmp_path / "b").exists()


def test_a_split_of_other_images_is_refused(collection, stem, tmp_path):
    split = Split("other", {"x": "train"}, {"x": 0}, {})
    with pytest.raises(TrainingError, match="no image of the data is in"):
        train_itq([collection], tmp_path / "b", stem, split=split)
