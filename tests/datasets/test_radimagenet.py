"""RadImageNet and RadIN-CT, on small files in their true layouts."""

import shutil

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import read_collection
from medlike.datasets.radimagenet import RADIN_CT, read_radimagenet, read_radin_ct
from medlike.errors import DatasetError


def picture(file, value=7, size=(6, 5)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(file)


def radimagenet(root):
    for name in (
        "CT/abd/normal/abd-normal000001.png", "CT/abd/liver_lesion/liver000002.png",
        "CT/abd/gallstone/gs000001.png", "CT/lung/normal/lung-normal000032.png",
        "CT/lung/Airspace_opacity/airspace000003.png", "MR/af/Plantar_plate_tear/foot040499.png",
        "US/gb/usn309850.png",
    ):  # fmt: skip
        picture(root / "radiology_ai" / name)
    return root


def test_radimagenet(tmp_path):
    data = read_radimagenet(radimagenet(tmp_path))
    assert len(data) == 7
    by_path = {s.path: s for s in data}
    tear = by_path["MR/af/Plantar_plate_tear/foot040499.png"]
    assert (tear.modality, tear.region, tear.label) == ("MR", "ankle_foot", "MR_af_Plantar_plate_tear")
    assert by_path["US/gb/usn309850.png"].label == "US_gb"
    assert by_path["CT/lung/normal/lung-normal000032.png"].region == "chest"
    assert read_collection(tmp_path).samples == data.samples
    assert read_collection(tmp_path / "radiology_ai").samples == data.samples
    picture(tmp_path / "radiology_ai" / "CT" / "abd" / "loose.png")
    with pytest.raises(DatasetError, match="MODALITY/ANATOMY/LABEL"):
        read_radimagenet(tmp_path)
    with pytest.raises(DatasetError, match="none of CT, MR, US"):
        read_radimagenet(tmp_path / "radiology_ai" / "CT")


def test_radin_ct_takes_its_sixteen_classes_by_name(tmp_path):
    data = read_radin_ct(radimagenet(tmp_path))
    assert [s.label for s in data] == ["liver_lesion", "abd_normal", "airspace_opacity", "lung_normal"]
    assert [s.region for s in data] == ["abdomen", "abdomen", "chest", "chest"]
    assert len(RADIN_CT) == 16


def test_radin_ct_as_a_folder_per_class(tmp_path):
    names = ["abd_normal_ct", "Airspace_opacity", "bladder_pathology_ct", "bowel_abnormality_ct",
             "Bronchiectasis", "interstitial_lung_disease", "liver_lesion_ct", "lung_normal", "Nodule",
             "osseous_neoplasm_ct",
             "ovarian_pathology_ct", "pancreatic_lesion_ct", "prostate_lesion_ct", "renal_lesion_ct",
             "splenic_lesion_ct", "uterine_pathology_ct"]  # fmt: skip
    for name in [*names, "something_else"]:
        picture(tmp_path / "retrieval" / name / "1.png")
    data = read_radin_ct(tmp_path / "retrieval")
    assert len(read_collection(tmp_path / "retrieval")) == 17  # a folder a class like any other
    shutil.rmtree(tmp_path / "retrieval" / "something_else")
    assert read_collection(tmp_path / "retrieval") == data  # told by its folders alone
    assert sorted(s.label for s in data) == sorted(RADIN_CT)
    with pytest.raises(DatasetError, match="uterine_pathology"):
        read_radin_ct(tmp_path)
