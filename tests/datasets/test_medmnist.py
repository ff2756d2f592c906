"""MedMNIST, on small files in its true layout."""

import numpy as np
import pytest

from medlike.datasets import open_sample, read_collection, write_manifest
from medlike.datasets.medmnist import read_medmnist
from medlike.errors import DatasetError


def test_medmnist(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 5), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 2, (n, 1), dtype=np.uint8)
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    data = read_collection(tmp_path / "pneumoniamnist.npz")
    assert len(data) == 10 and [s.extra["part"] for s in data].count("val") == 2
    assert data[0].label == f"pneumoniamnist_{arrays['train_labels'][0, 0]}"
    assert (data[0].modality, data[0].region, data[0].coarse) == ("XR", "chest", "XR_chest")
    np.testing.assert_array_equal(data[6].pixels(), arrays["val_images"][1])
    assert open_sample(data[9]).pixels.shape == (28, 28)
    with pytest.raises(DatasetError, match="export"):
        write_manifest(data, tmp_path / "m.csv")


def test_medmnist_in_colour_with_several_labels_and_what_is_refused(tmp_path):
    images = np.zeros((2, 28, 28, 3), np.uint8)
    np.savez(tmp_path / "chestmnist_64.npz", train_images=images, train_labels=np.array([[0, 1, 1], [0, 0, 0]]))
    assert [s.label for s in read_medmnist(tmp_path / "chestmnist_64.npz")] == [
        "chestmnist_1|2",
        "chestmnist_none",
    ]
    np.savez(
        tmp_path / "organmnist3d.npz",
        train_images=np.zeros((2, 8, 8, 8), np.uint8),
        train_labels=np.zeros((2, 1)),
    )
    np.savez(tmp_path / "short.npz", train_images=images, train_labels=np.zeros((1, 1)))
    np.savez(tmp_path / "other.npz", x=images)
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 not a zip")
    for name, message in (
        ("organmnist3d", "3D"),
        ("short", "labels"),
        ("other", "train_images"),
        ("torn", "npz"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_medmnist(tmp_path / f"{name}.npz")
