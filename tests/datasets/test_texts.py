"""Collections with texts, on small files in the true layout of Open-i and ROCO."""

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import make_split, read_collection, read_manifest
from medlike.datasets.openi import read_openi
from medlike.datasets.roco import read_roco
from medlike.errors import DatasetError

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <meta type="rr"/><uId id="CXR{number}"/><pmcId id="{number}"/><docSource>CXR</docSource>
  <IUXRId id="{number}"/><licenseType>open-access</licenseType>
  <MedlineCitation Owner="Indiana University" Status="supplied by publisher"><Article PubModel="Electronic">
    <Abstract>
      <AbstractText Label="COMPARISON">XXXX, XXXX.</AbstractText>
      <AbstractText Label="INDICATION">{number}-year-old XXXX with cough</AbstractText>
      <AbstractText Label="FINDINGS">{findings}</AbstractText>
      <AbstractText Label="IMPRESSION">{impression}</AbstractText>
    </Abstract></Article></MedlineCitation>
  <MeSH>{majors}</MeSH>
  {images}
</eCitation>
"""


def picture(file, seed=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8)).save(file)


@pytest.fixture
def openi(tmp_path):
    reports = {
        1: ("The heart is normal XXXX.", "Normal chest x-XXXX.", ("normal",),
            ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")),
        2: ("Borderline cardiomegaly.", "",
            ("Cardiomegaly/borderline", "Cardiomegaly/mild", "Pulmonary Artery/enlarged"), ("CXR2_IM-0652-1001",)),
        10: ("", "", (), ("CXR10_IM-0002-1001",)),
    }  # fmt: skip
    for number, (findings, impression, majors, images) in reports.items():
        told = {
            "number": number, "findings": findings, "impression": impression,
            "majors": "".join(f"<major>{major}</major>" for major in majors),
            "images": "".join(
                f'<parentImage id="{image}"><figureId>F1</figureId><caption>PA and lateral</caption></parentImage>'
                for image in images
            ),
        }  # fmt: skip
        file = tmp_path / "ecgen-radiology" / f"{number}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(REPORT.format(**told))
        for at, image in enumerate(images):
            picture(tmp_path / "NLMCXR_png" / f"{image}.png", 10 * number + at)
    return tmp_path


def test_openi(openi):
    data = read_openi(openi)
    assert [s.group for s in data] == ["CXR1", "CXR1", "CXR2", "CXR10"]
    assert [s.label for s in data] == ["normal", "normal", "Cardiomegaly|Pulmonary Artery", ""]
    assert data[0].text == "The heart is normal. Normal chest x." and data[3].text == ""
    assert data[2].text == "Borderline cardiomegaly." and "cough" not in data[2].text
    assert data[0].path == "NLMCXR_png/CXR1_1_IM-0001-3001.png" and data[0].modality == "XR"
    assert read_collection(openi).samples == data.samples


def test_a_split_keeps_a_report_of_openi_together(openi):
    data = read_openi(openi)
    split = make_split(data, np.arange(len(data), dtype=np.uint64) * np.uint64(0x1234567890ABCDEF))
    assert split.part_of[data[0].path] == split.part_of[data[1].path]


def test_openi_half_unpacked(openi):
    (openi / "NLMCXR_png" / "CXR2_IM-0652-1001.png").unlink()
    with pytest.raises(DatasetError, match="1 of 4 images are missing, the first is CXR2_IM-0652-1001"):
        read_openi(openi)
    assert len(read_openi(openi, complete=False)) == 3
    (openi / "ecgen-radiology" / "2.xml").write_text("<eCitation>")
    with pytest.raises(DatasetError, match=r"2\.xml is no readable XML"):
        read_openi(openi)
    with pytest.raises(DatasetError, match="has no ecgen-radiology"):
        read_openi(openi / "NLMCXR_png")


@pytest.fixture
def roco(tmp_path):
    folder = tmp_path / "all_data" / "train" / "radiology"
    for number in ("ROCO_00002", "ROCO_00003"):
        picture(folder / "images" / f"{number}.jpg", int(number[-1]))
    (folder / "traindata.csv").write_text(
        "id,name,caption\nROCO_00002,PMC4083729_AMHSR-4-14-g002.jpg,\" Computed tomography, axial.\n\"\n"
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


def test_the_texts_of_a_manifest(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 1)
    (tmp_path / "manifest.csv").write_text("path,text\na.png,Left  effusion.\nb.png,Replace this text\n")
    assert [s.text for s in read_manifest(tmp_path)] == ["Left effusion.", ""]
