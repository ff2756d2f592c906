import numpy as np
import pytest
from PIL import Image

from medlike.datasets import join, may_draw, may_train, read_manifest, write_manifest
from medlike.datasets.texts import is_placeholder
from medlike.errors import DatasetError

HEADER = (
    "path,class,source,orig,group,modality,region,label,task,width,height,"
    "boxes_xywh,mask,text,extra,licence\n"
)
ROW = (
    'images/a.png,XR_chest,hosp,orig/a,p1,XR,chest,XR_chest_COVID-19,text+box,8,6,"[[1.5, 2, 3, 4]]",,'
    'Replace this - DESCRIPTION OF THE IMAGE OR FINDINGS.,"{""view"": ""PA""}",'
    "CC BY 4.0 (boxes); image: CC BY-NC\n"
)


def write(folder, text, files=("images/a.png", "images/b.png")):
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(folder / name)
    (folder / "manifest.csv").write_text(text)
    return folder / "manifest.csv"


def test_a_row_becomes_a_frozen_sample(tmp_path):
    other = "images/b.png,XR_chest,hosp,,,XR,chest,,,,,,,a scan,PA,\n"
    data = read_manifest(write(tmp_path, HEADER + ROW + other))
    a, b = data
    assert a.label == "XR_chest_COVID-19" and a.coarse == "XR_chest" and a.group == "p1"
    assert a.boxes == ((1.5, 2.0, 4.5, 6.0),)
    assert a.text == "" and b.text == "a scan"
    assert a.extra == {"view": "PA", "orig": "orig/a"} and b.extra == {"value": "PA"}
    assert b.label == "XR_chest" and b.group == "" and b.width is None and a.width == 8
    assert a.file.is_file()
    assert not may_train(a) and not may_draw(a) and may_train(b) and not may_draw(b)
    with pytest.raises(AttributeError):
        a.label = "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\nimages/a.png,x\n", "no column `path`"),
        ("path,label\nimages/a.png,x\nimages/a.png,y\n", "rows 1 and 2 both name"),
        ("path,label\nimages/a.png,x\n./images/a.png,y\n", "rows 1 and 2 both name"),
        ("path,label\nimages/a.png,x\nimages/gone.png,y\n", "1 of 2 files are missing"),
        ("path,label\n", "no rows"),
        ("path,label\n,x\n", "path is empty"),
        ('path,boxes_xywh\nimages/a.png,"[[1,2,3]]"\n', "JSON list"),
        ('path,boxes_xywh\nimages/a.png,"[[1,2,0,4]]"\n', "is empty"),
        ("path,width\nimages/a.png,wide\n", "whole number"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_manifest(write(tmp_path, text))


def test_a_manifest_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(DatasetError, match="does not exist"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "manifest.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(DatasetError, match="UTF-8"):
        read_manifest(tmp_path)


def test_unknown_columns_are_kept_and_manifests_can_be_written_again(tmp_path):
    data = read_manifest(write(tmp_path, "path,label,age\nimages/a.png,x,61\nimages/b.png,y,\n"))
    assert data[0].extra == {"age": "61"} and data[1].extra == {}
    write_manifest(data, tmp_path / "again.csv")
    again = read_manifest(tmp_path / "again.csv")
    assert [(s.file, s.label, dict(s.extra)) for s in again] == [
        (s.file, s.label, dict(s.extra)) for s in data
    ]


def test_joined_collections_carry_their_names(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "path,label\nimages/a.png,x\n")
    both = join(read_manifest(tmp_path / "one"), read_manifest(tmp_path / "two"))
    assert [s.path for s in both] == ["one/images/a.png", "two/images/a.png"]
    assert [s.source for s in both] == ["one", "two"]
    with pytest.raises(DatasetError, match="two collections"):
        join(read_manifest(tmp_path / "one"), read_manifest(tmp_path / "two", name="one"))


@pytest.mark.parametrize(
    "text", ["", "  ", "IN PROGRESS.", "Replace this", "n/a", "Figure 3", "CT image 12", "TBD"]
)
def test_placeholders(text):
    assert is_placeholder(text)


@pytest.mark.parametrize(
    "text", ["Figure 3: a mass", "Sarcoidosis", "pelvis", "CT image of the chest", "Normal scan"]
)
def test_texts_that_say_something(text):
    assert not is_placeholder(text)


def test_what_is_known_of_a_source_can_stand_in_the_rows(tmp_path):
    columns = "path,source,apart,origin,caution\n"
    data = read_manifest(write(tmp_path, columns + "images/a.png,x,yes,here,old\nimages/b.png,x,,,\n"))
    assert [(s.apart, s.origin, s.caution) for s in data] == [(True, "here", "old"), (False, "", "")]
    assert data[0].extra == {}
    write_manifest(data, tmp_path / "again.csv")
    assert [(s.apart, s.origin, s.caution) for s in read_manifest(tmp_path / "again.csv")] == [
        (True, "here", "old"),
        (False, "", ""),
    ]
    with pytest.raises(DatasetError, match="row 1: apart is 'maybe'; write yes or no"):
        read_manifest(write(tmp_path, columns + "images/a.png,x,maybe,,\n"))
