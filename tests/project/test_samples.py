"""The samples: small, several modalities, real DICOM, each with its attribution, nobody's name in them."""

import csv
from pathlib import Path

import pydicom
import pytest

from medlike import samples

SAMPLES = samples()
ALLOWED = {"CC BY 3.0", "CC BY 4.0", "CC0 1.0", "PDDL 1.0", "MIT", "MIT (as part of pydicom)", "Apache-2.0"}


def rows(name):
    with (SAMPLES / name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


LISTED = rows("manifest.csv") + rows("queries.csv")


def test_they_are_few_and_small():
    size = sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file())
    assert size < 8_000_000
    assert 180 <= len(LISTED) <= 260
    assert {row["modality"] for row in LISTED} >= {"CT", "MR", "US", "XR", "NM"}


def test_every_file_is_listed_once_and_attributed():
    files = {
        str(file.relative_to(SAMPLES))
        for folder in ("images", "dicom", "phantoms", "queries")
        for file in (SAMPLES / folder).iterdir()
    }
    assert sorted(files) == sorted(row["path"] for row in LISTED)
    assert sorted(files) == sorted(row["path"] for row in rows("ATTRIBUTION.csv"))


def test_terms_allow_it():
    for row in rows("ATTRIBUTION.csv"):
        assert row["licence"] in ALLOWED, row["path"]
        assert row["author"] and row["origin"] and row["licence_url"].startswith("https://") and row["changes"]


def test_queries_are_not_among_the_stored():
    stored = {(row["source"], row["group"]) for row in rows("manifest.csv") if row["group"]}
    for row in rows("queries.csv"):
        assert (row["source"], row["group"]) not in stored, row["path"]
    assert not any(row["modality"] == "microscopy" for row in rows("manifest.csv"))


@pytest.mark.parametrize("file", sorted(SAMPLES.rglob("*.dcm")), ids=lambda file: Path(file).name)
def test_dicom_headers_name_nobody(file):
    image = pydicom.dcmread(file)
    assert str(image.PatientName).startswith("Sample^")
    for element in image.iterall():
        assert not element.tag.is_private
        known = element.keyword in ("PatientName", "StudyDate")
        assert known or element.VR not in ("PN", "DA", "DT"), element
    for name in ("InstitutionName", "ReferringPhysicianName", "AccessionNumber", "PatientBirthDate"):
        assert name not in image
    assert image.pixel_array.size
