"""The untrained bundle, made from a small made-up collection with a random stem."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from medlike.bundle import Bundle
from medlike.datasets import Split, make_split, read_manifest
from medlike.errors import TrainingError
from medlike.inference import Encoder
from medlike.models.efficientnet_lite import EfficientNetLite
from medlike.training.itq import RotationSettings, train_itq

SMALL = RotationSettings(bits=16, content=12, features=10, reference=60)


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


@pytest.mark.slow
def test_a_bundle_is_made_measured_and_runs(collection, split, stem, tmp_path):
    said = []
    made = train_itq(
        [collection], tmp_path / "b", stem, settings=SMALL, split=split, cache=tmp_path / "c", say=said.append
    )
    assert (made.name, made.bits, made.content_dim) == ("medlike-itq-16", 16, 12)
    assert made.spec["content_blocks"] == [12]
    assert made.modalities == ["CT", "MR", "US"]
    used = [s for s in split.part(collection, "train", "validation") if "NC" not in s.licence]
    assert made.spec["training"]["images"] == len(used)
    assert made.spec["outlier"]["reference_images"] == 60
    quality = made.spec["quality"]
    assert quality["map_expected"] > 0.5  # chance is a third
    assert quality["query"] == len(split.part(collection, "query"))
    with Encoder(Bundle.load(tmp_path / "b")) as encoder:
        found = encoder.encode([np.zeros((224, 224), np.uint8)])
    assert found.outlier is not None and found.code.shape == (1, 2)
    again = train_itq(
        [collection], tmp_path / "b2", stem, settings=SMALL, split=split, cache=tmp_path / "c", say=said.append
    )
    assert again.digest == made.digest
    assert any("features of" in line and "from" in line for line in said)


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
