"""Readers of other people's layouts, on small files in the true layout."""

import shutil

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import open_sample, read_collection, write_manifest
from medlike.datasets.chestxray14 import findings, read_chestxray14
from medlike.datasets.folders import read_folders
from medlike.datasets.medmnist import read_medmnist
from medlike.datasets.radimagenet import RADIN_CT, read_radimagenet, read_radin_ct
from medlike.errors import DatasetError


def picture(file, value=7, size=(6, 5)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(file)


def test_a_folder_per_class(tmp_path):
    for name in ("cat/b.png", "cat/deep/a.jpg", "dog/c.PNG", "loose.png", "dog/.hidden.png", "dog/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("x")
        else:
            picture(tmp_path / name)
    data = read_folders(tmp_path, "pets")
    assert [(s.path, s.label) for s in data] == [
        ("cat/b.png", "cat"),
        ("cat/deep/a.jpg", "cat"),
        ("dog/c.PNG", "dog"),
    ]
    assert [s.path for s in read_collection(tmp_path)] == [s.path for s in data]
    with pytest.raises(DatasetError, match="no image"):
        (tmp_path / "empty").mkdir()
        read_folders(tmp_path / "empty")
    with pytest.raises(DatasetError, match="does not exist"):
        read_collection(tmp_path / "none")


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
    np.savez(
        tmp_path / "chestmnist_64.npz", train_images=images, train_labels=np.array([[0, 1, 1], [0, 0, 0]])
    )
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
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_000.png,Cardiomegaly,225.08,547.01,86.77,79.18,,,\n"
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
