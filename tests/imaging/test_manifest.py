"""Manifests: rows into sources, and what they add to the file's own facts."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import discover, load
from medlike.imaging.manifest import is_placeholder, read_manifest


@pytest.fixture
def manifest(tmp_path):
    """write(rows) -> path of a manifest beside images/a.png."""
    (tmp_path / "images").mkdir()
    PillowImage.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(tmp_path / "images" / "a.png")

    def write(*rows: dict[str, str], encoding: str = "utf-8") -> Path:
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with (tmp_path / "manifest.csv").open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        return tmp_path / "manifest.csv"

    return write


def only(path):
    (source,) = discover([path])
    return source


def test_every_column_of_the_development_manifests(manifest):
    source = only(
        manifest(
            {
                "path": "images/a.png",
                "class": "XR_chest",
                "source": "hospital",
                "orig": "raw/9.png",
                "group": "case_12",
                "modality": "DX",
                "region": "thorax",
                "label": "XR_chest_effusion",
                "task": "class",
                "width": "10",
                "height": "10",
                "boxes_xywh": "[[1, 2, 3.5, 4], [0, 0, 10, 10]]",
                "mask": "masks/9.png",
                "text": "Effusion on the left.",
                "extra": json.dumps(
                    {"sex": "f", "view": "ap", "age": 63, "study": "CHEST AP", "case_dx": "Effusion", "n": 2}
                ),
                "licence": "CC BY 4.0",
            }
        )
    )
    assert source.metadata == {
        "class": "XR_chest",
        "source": "hospital",
        "modality": "XR",
        "region": "chest",
        "label": "XR_chest_effusion",
        "task": "class",
        "licence": "CC BY 4.0",
        "sex": "F",
        "view": "AP",
        "age": 63.0,
        "n": 2,
    }
    assert source.identifiers["patient_id"] == "case_12"
    assert source.identifiers["original_path"] == "raw/9.png"
    assert source.identifiers["study_description"] == "CHEST AP"
    assert source.identifiers["mask"].endswith("masks/9.png")
    assert "study_uid" not in source.identifiers
    assert source.boxes == [(1, 2, 4.5, 6), (0, 0, 10, 10)]
    assert source.texts == {"text": "Effusion on the left.", "case_dx": "Effusion"}
    (image,) = load(source)
    assert image.metadata == {**source.metadata, "rows": 10, "columns": 10}
    assert image.boxes == source.boxes
    assert image.texts == source.texts
    assert image.identifiers == source.identifiers
    assert image.pixels.shape == (10, 10)


def test_paths_are_relative_to_the_manifest(manifest, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    path = manifest({"path": "images/a.png"}, {"path": str(tmp_path / "images" / "a.png")})
    assert [len(list(load(source))) for source in discover([path])] == [1, 1]
    monkeypatch.chdir(tmp_path)
    assert [len(list(load(source))) for source in discover(["manifest.csv"])] == [1, 1]


def test_manifest_facts_win_over_the_files(write_dicom, tmp_path):
    write_dicom("a.dcm", np.zeros((4, 4), np.uint8), Modality="CT", PatientID="1", BodyPartExamined="CHEST")
    (tmp_path / "m.csv").write_text("path,modality,patient\na.dcm,MR,2\n")
    (image,) = load(only(tmp_path / "m.csv"))
    assert image.metadata["modality"] == "MR"
    assert image.metadata["region"] == "chest"
    assert image.identifiers["patient_id"] == "2"


def test_people_in_manifests_are_identifiers(manifest):
    source = only(
        manifest(
            {
                "path": "images/a.png",
                "patient": "P7",
                "name": "Jane Doe",
                "birth_date": "1950-03-01",
                "MRN": "4711",
                "study": "S1",
                "series": "Q2",
                "Doctor": "House",
                "exam_date": "2020-06-15",
                "age": "045Y",
                "sex": "Female",
                "stage": "T2",
            }
        )
    )
    assert source.metadata == {"age": 45.0, "sex": "F", "stage": "T2"}
    assert source.identifiers["patient_id"] == "P7"
    assert source.identifiers["study_uid"] == "S1"
    assert source.identifiers["series_uid"] == "Q2"
    assert {"Jane Doe", "4711", "House", "1950-03-01", "2020-06-15"} <= set(source.identifiers.values())


@pytest.mark.parametrize(
    "text",
    [
        "Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.",
        "IN PROGRESS",
        "IN PROGRESS.",
        "n/a",
        "N/A",
        "-",
        "",
        "none",
        "TBD",
        "...",
    ],
)
def test_placeholders_are_dropped(manifest, text):
    assert is_placeholder(text)
    assert only(manifest({"path": "images/a.png", "text": text, "label": "x"})).texts == {}


@pytest.mark.parametrize(
    "text", ["Normal.", "pelvis", "Progress of the effusion", "No effusion", "Test positive for flu"]
)
def test_short_texts_are_kept(text):
    assert not is_placeholder(text)


def test_extra_in_plain_words(manifest):
    assert only(manifest({"path": "images/a.png", "extra": "AP Supine"})).metadata == {"view": "AP SUPINE"}
    assert only(manifest({"path": "images/a.png", "extra": "batch 7"})).metadata == {"extra": "batch 7"}


@pytest.mark.parametrize(
    "boxes", ["[[1, 2, 3]]", "[1, 2", "[[1, 2, 0, 4]]", '[["a", 1, 1, 1]]', "[[1, 2, NaN, 4]]", "7"]
)
def test_bad_boxes_are_refused_with_their_line(manifest, boxes):
    source = only(manifest({"path": "images/a.png", "boxes_xywh": boxes}))
    with pytest.raises(ImageError, match="line 2 of the manifest: boxes_xywh"):
        list(load(source))


def test_what_is_no_value_of_its_column_is_told(manifest):
    told = [{"age": "forty"}, {"age": "-3"}, {"age": "200Y"}, {"sex": "Q"}, {"extra": '{"age": 400, "sex": "both"}'}]
    silent = [{"age": "000Y"}, {"sex": "unknown"}, {"age": "n/a"}, {"region": "-"}, {"modality": "none"}, {"sex": "?"}]
    rows = list(read_manifest(manifest(*({"path": f"{at}.png", **row} for at, row in enumerate([*told, *silent])))))
    assert [row.dropped for row in rows[:5]] == [*told[:4], {"age": "400", "sex": "both"}]
    assert not any(row.dropped for row in rows[5:]) and not any(row.metadata for row in rows)


def test_of_rows_that_contradict_each_other_the_last_is_used(manifest):
    said = [("a.png", "old"), ("b.png", "one"), ("./a.png", "older"), ("a.png", "new"), ("b.png", "one"), ("", "x")]
    path = manifest(*({"path": path, "label": label} for path, label in said), {"path": "", "label": "y"})
    found = list(read_manifest(path))
    assert [row.metadata.get("label") for row in found] == [None, "one", None, "new", "one", None, None]
    later = "a later line says other things of this file"
    assert [later in (row.problem or "") for row in found] == [True, False, True, False, False, False, False]
    assert "line 2 of" in found[0].problem and "names no path" in found[-1].problem


def test_bad_rows_do_not_stop_the_others(manifest):
    path = manifest(
        {"path": "", "label": "x"},
        {"path": "images/none.png", "label": ""},
        {"path": "images/a.png", "label": "y"},
    )
    outcome = []
    for source in discover([path]):
        try:
            outcome += [image.metadata["label"] for image in load(source)]
        except ImageError as refusal:
            outcome.append(str(refusal))
    assert outcome == ["line 2 of the manifest names no path", "there is no such file", "y"]


@pytest.mark.parametrize("content", ["", "name,label\na,b\n", "\0\0\0", "x" * 200_000, "\xff\xfe binary"])
def test_a_csv_that_is_no_manifest(tmp_path, content):
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(ImageError, match=r"column `path`|manifest"):
        list(load(only(tmp_path / "m.csv")))


def test_byte_order_marks_and_capitals(manifest):
    path = manifest({"Path": "images/a.png", "Label": "é"}, encoding="utf-8-sig")
    assert only(path).metadata == {"label": "é"}


@pytest.mark.collections
@pytest.mark.skipif(
    "MEDLIKE_DEV" not in os.environ, reason="the development collections are absent: set MEDLIKE_DEV"
)
@pytest.mark.parametrize(("name", "rows", "boxed"), [("dev", 8370, 1191), ("dev2", 3563, 677)])
def test_development_manifests(name, rows, boxed):
    path = Path(os.environ["MEDLIKE_DEV"]) / name / "manifest.csv"
    found = list(read_manifest(path))
    assert len(found) == rows
    assert not [row for row in found if row.problem]
    assert sum(row.boxes is not None for row in found) == boxed
    assert all(Path(row.path).exists() for row in found[::50])
    assert {row.metadata.get("region") for row in found}.isdisjoint({"thorax", "none", "other", ""})
    assert not [row for row in found if row.texts.get("text", "").lower().startswith("replace this")]
