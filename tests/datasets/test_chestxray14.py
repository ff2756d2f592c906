"""ChestX-ray14, on small files in its true layout."""

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import read_collection
from medlike.datasets.chestxray14 import findings, read_chestxray14
from medlike.errors import DatasetError


def picture(file, value=7, size=(6, 5)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(file)


def chestxray14(root, images):
    for name in images:
        picture(root / name)
    (root / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
        "00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
        "00000001_001.png,Cardiomegaly|Emphysema,1,1,058Y,M,PA,2894,2729,0.143,0.143,\n"
        "00000002_000.png,No Finding,0,2,081Y,M,AP,2500,2048,0.171,0.171,\n"
    )
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Cardiomegaly,225.08,547.01,86.77,79.18,,,\n"
    )


def test_chestxray14(tmp_path):
    chestxray14(tmp_path, ["images_001/images/00000001_000.png", "images_001/images/00000001_001.png",
                           "images_002/images/00000002_000.png"])  # fmt: skip
    data = read_collection(tmp_path)
    assert [s.group for s in data] == ["1", "1", "2"]
    assert data[0].boxes == ((225.08, 547.01, 225.08 + 86.77, 547.01 + 79.18),)
    assert data[2].path == "images_002/images/00000002_000.png" and data[2].extra["view"] == "AP"
    names, present = findings(data)
    assert names == ("Cardiomegaly", "Emphysema")
    assert present.tolist() == [[True, False], [True, True], [False, False]]


def test_a_half_downloaded_chestxray14_is_an_error(tmp_path):
    chestxray14(tmp_path, ["images/00000001_000.png"])
    with pytest.raises(DatasetError, match="2 of 3 images are missing"):
        read_chestxray14(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").write_text("Image Index\n")
    with pytest.raises(DatasetError, match="Finding Labels"):
        read_chestxray14(tmp_path)
