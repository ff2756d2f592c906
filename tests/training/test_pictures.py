"""Pictures prepared for training: as the encoder would see them, kept, and read from disk as they are asked for."""

import os

import numpy as np
import pytest

from medlike.datasets import prepare_samples, read_manifest
from medlike.errors import DatasetError
from medlike.training.pictures import prepare_pictures


@pytest.fixture(scope="module")
def dataset(write_phantoms, tmp_path_factory):
    return read_manifest(write_phantoms(tmp_path_factory.mktemp("data"), each=2) / "manifest.csv")


def test_pictures_are_those_of_the_encoder_and_stay_on_disk(dataset, tmp_path):
    said = []
    found = prepare_pictures(dataset, tmp_path, said.append)
    expected = list(prepare_samples(dataset))
    np.testing.assert_array_equal(found.pixels, np.stack([item.pixels for item in expected]))
    np.testing.assert_array_equal(found.fingerprints, np.stack([item.fingerprint for item in expected]))
    assert isinstance(found.pixels, np.memmap) and len(said) == 1
    again = prepare_pictures(dataset, tmp_path, said.append)
    assert len(said) == 1 and again.digest == found.digest
    # What is done to a picture in memory does not reach the file.
    again.pixels[0] = 0
    np.testing.assert_array_equal(prepare_pictures(dataset, tmp_path).pixels, found.pixels)
    assert [p.name for p in tmp_path.iterdir()] == [f"pictures-{found.digest}"]


def test_another_order_is_another_file(dataset, tmp_path):
    turned = type(dataset)(dataset.name, dataset.samples[::-1])
    np.testing.assert_array_equal(
        prepare_pictures(turned, tmp_path).pixels, prepare_pictures(dataset, tmp_path).pixels[::-1]
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_changed_in_place_is_another_file(dataset, tmp_path):
    """Pixels without compression keep their size; the time of the file tells."""
    before = prepare_pictures(dataset, tmp_path).digest
    file, state = dataset[0].file, dataset[0].file.stat()
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert prepare_pictures(dataset, tmp_path).digest != before
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert prepare_pictures(dataset, tmp_path).digest == before


def test_a_picture_that_cannot_be_read_leaves_nothing_half_done(write_phantoms, tmp_path):
    folder = write_phantoms(tmp_path / "data", each=1)
    broken = sorted(folder.glob("*.png"))[3]
    broken.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=broken.name):
        prepare_pictures(read_manifest(folder / "manifest.csv"), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
