"""The commands around training, in processes of their own: what they print, write and end with."""

import csv
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

MEDLIKE = Path(sys.executable).with_name("medlike")


def medlike(*words):
    done = subprocess.run([str(MEDLIKE), *map(str, words)], capture_output=True, text=True, timeout=200)
    assert "Traceback" not in done.stderr
    return done


def test_a_site_is_judged_and_its_report_written(tiny_bundle, phantom_collection, tmp_path):
    (tmp_path / "site").mkdir()
    for file in sorted(phantom_collection.glob("us_breast-*.png")):
        (tmp_path / "site" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "site" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    words = ("commission", "--data", tmp_path / "site", "--bundle", tiny_bundle.path, "--out", tmp_path / "report")
    done = medlike(*words, "--format", "json")
    assert done.returncode == 3 and "broken.png" in done.stderr
    report = json.loads(done.stdout)
    assert report["images"] == 24 and report["bundle"]["name"] == "tiny-64"
    assert json.loads((tmp_path / "report" / "results.json").read_text()) == report
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert not any(word in page + done.stdout for word in ("us_breast", "broken", str(tmp_path)))
    names = tmp_path / "report" / "names.csv"
    with names.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "path", "frame"] and len(rows) == 26
    assert Path(rows[1][1]) == tmp_path / "site" / "us_breast-0-0.png" and rows[25][0] == "file 1"
    assert stat.S_IMODE(names.stat().st_mode) == 0o600


def test_a_site_without_images_is_an_error(tiny_bundle, tmp_path):
    done = medlike("commission", "--data", tmp_path, "--bundle", tiny_bundle.path)
    assert done.returncode == 1 and "no image could be read" in done.stderr


def test_a_card_is_written(tiny_bundle, tmp_path):
    done = medlike("bundle", "card", tiny_bundle.path, "--out", tmp_path / "card.md")
    assert done.returncode == 0 and (tmp_path / "card.md").read_text().startswith("# tiny-64\n")
    (tmp_path / "results.json").write_text("no json")
    done = medlike("bundle", "card", tiny_bundle.path, "--results", tmp_path / "results.json")
    assert done.returncode == 1 and "is not JSON" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("nonsense",), 1, "preset 'nonsense' is unknown"),
        (("compact", "--bits", "12"), 1, "choose a multiple of 8 from 8 to 512"),
        (("compact", "--set", "epochs"), 2, "is not KEY=VALUE"),
        (("compact", "--set", "epoch=3"), 1, "setting 'epoch' is unknown"),
        (("compact", "--leave-out", "nowhere"), 1, "no image has the source 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_one_line(phantom_collection, tmp_path, words, code, said):
    done = medlike("train", *words, "--data", phantom_collection, "--out", tmp_path / "out")
    assert done.returncode == code and said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_data_that_are_not_there(tmp_path):
    done = medlike("train", "compact", "--data", tmp_path / "no.csv", "--out", tmp_path / "out")
    assert done.returncode == 1 and "no.csv does not exist" in done.stderr


@pytest.mark.slow
def test_training_speed_is_measured():
    done = medlike("bench", "train", "--quick", "--protocol", "frozen", "--device", "cpu", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)[0]
    assert found["images_per_second"] > 0 and 0 <= found["waiting"] < 1 and found["protocol"] == "frozen"


@pytest.mark.parametrize("preset", ["itq", "mcmfh"])
@pytest.mark.parametrize(
    "given",
    [["--resume"], ["--stage", 2], ["--leave-out", "a"], ["--start", "x.run"], ["--loss", "csq"], ["--device", "x"]],
)
def test_options_that_a_preset_has_no_use_for_are_refused(preset, given, tmp_path):
    done = medlike("train", preset, "--data", tmp_path, "--out", tmp_path / "bundle", *given)
    assert done.returncode == 2 and given[0] in done.stderr and "has no use for it" in done.stderr


def test_an_image_bundle_is_for_text_bundles_only(tmp_path):
    given = ("--data", tmp_path, "--out", tmp_path / "bundle", "--image-bundle", "medlike-itq-64")
    done = medlike("train", "compact", *given)
    assert done.returncode == 2 and "--image-bundle" in done.stderr and "has no use for it" in done.stderr
