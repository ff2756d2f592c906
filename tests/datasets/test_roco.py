"""ROCO, on small files in its true layout."""

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import read_collection
from medlike.datasets.roco import read_roco
from medlike.errors import DatasetError


def picture(file, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8)).save(file)


@pytest.fixture
def roco(tmp_path):
    folder = tmp_path / "all_data" / "train" / "radiology"
    for number in ("ROCO_00002", "ROCO_00003"):
        picture(folder / "images" / f"{number}.jpg", int(number[-1]))
    (folder / "traindata.csv").write_text(
        'id,name,caption\nROCO_00002,PMC4083729_AMHSR-4-14-g002.jpg," Computed tomography, axial.\n"\n'
        "ROCO_00003,PMC4083729_g003.jpg, Left effusion.\n"
    )
    (folder / "cuis.txt").write_text("ROCO_00002\tC0040405\tC0205129\nROCO_00003\tC0013687\n")
    other = tmp_path / "all_data" / "test" / "non-radiology"
    picture(other / "images" / "ROCO_00010.jpg", 10)
    (other / "captions.txt").write_text("ROCO_00010\t Flow chart of the study.\n")
    (other / "dlinks.txt").write_text("ROCO_00010\tftp://host/pub/PMC2837471.tar.gz\tPMC2837471/g001.jpg\n")
    return tmp_path


def test_roco(roco):
    data = read_roco(roco)
    assert [s.path for s in data] == [
        "train/radiology/images/ROCO_00002.jpg", "train/radiology/images/ROCO_00003.jpg",
        "test/non-radiology/images/ROCO_00010.jpg",
    ]  # fmt: skip
    assert [s.text for s in data] == ["Computed tomography, axial.", "Left effusion.", "Flow chart of the study."]
    assert [s.group for s in data] == ["PMC4083729", "PMC4083729", "PMC2837471"]
    assert [s.label for s in data] == ["radiology", "radiology", "non-radiology"]
    assert [s.extra.get("cuis") for s in data] == ["C0040405|C0205129", "C0013687", None]
    assert read_collection(roco).samples == read_collection(roco / "all_data").samples == data.samples


def test_roco_half_fetched(roco):
    (roco / "all_data" / "train" / "radiology" / "images" / "ROCO_00003.jpg").unlink()
    with pytest.raises(DatasetError, match="1 of 3 images are missing"):
        read_roco(roco)
    assert len(read_roco(roco, complete=False)) == 2
    with pytest.raises(DatasetError, match="is this ROCO"):
        read_roco(roco / "all_data" / "train" / "radiology" / "images")
