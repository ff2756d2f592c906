"""Open-i, on small files in its true layout."""

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import make_split, read_collection
from medlike.datasets.openi import read_openi
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
