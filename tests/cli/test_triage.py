"""Triage and calibration from the command line."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medlike.bundle import Bundle
from medlike.cli.app import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_pictures):
    made = tmp_path_factory.mktemp("site")
    for number, picture in enumerate(tiny_pictures(80, seed=4)):
        Image.fromarray(picture).save(made / f"{number:03d}.png")
    stripes = np.zeros((224, 224), np.uint8)
    stripes[::32] = stripes[1::32] = 255
    stripes[:, :16] = 255
    Image.fromarray(stripes).save(made / "strange.png")
    return made


def run(*arguments):
    return CliRunner().invoke(build(), [str(argument) for argument in arguments])


def test_triage_lists_what_does_not_belong_strangest_first(folder, tiny_bundle):
    done = run("triage", folder, "--bundle", tiny_bundle.path, "--format", "json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["images"] == 81 and found["refused"] == []
    assert found["outliers"][0]["path"].endswith("strange.png")
    assert all(row["p_value"] <= 0.03 and row["is_outlier"] for row in found["outliers"])
    everything = run("triage", folder, "--bundle", tiny_bundle.path, "--all", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(everything.stdout)))
    assert len(rows) == 81
    assert [float(row["p"]) for row in rows] == sorted(float(row["p"]) for row in rows)


def test_triage_says_what_it_could_not_read(folder, tiny_bundle, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run("triage", folder, tmp_path, "--bundle", tiny_bundle.path, "--threshold", "0", "-f", "json")
    assert done.exit_code == 3
    found = json.loads(done.stdout)
    assert found["outliers"] == [] and found["refused"][0]["path"].endswith("bad.png")


def test_calibrate_writes_a_bundle_of_the_same_codes(folder, tiny_bundle, tmp_path):
    done = run(
        "calibrate", "--bundle", tiny_bundle.path, "--data", folder, "--out", tmp_path / "ours", "-f", "json"
    )
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    made = Bundle.load(tmp_path / "ours")
    assert made.encoder_digest == tiny_bundle.encoder_digest
    assert found["bundle"]["digest"] == made.digest and found["images"] == 81
    again = run("calibrate", "--bundle", tiny_bundle.path, "--data", folder, "--out", tmp_path / "ours")
    assert again.exit_code == 1 and "a bundle is already at" in again.stderr
