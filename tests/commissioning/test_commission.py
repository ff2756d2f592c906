"""Before going live: what is said of a place's own images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medlike.bundle import rewrite
from medlike.commissioning.commission import advice, commission
from medlike.commissioning.page import page
from medlike.errors import BundleError


def test_images_of_a_study_find_each_other(report):
    retrieval = report["retrieval"]
    assert (retrieval["queries"], retrieval["studies"]) == (80, 40)
    assert retrieval["first"]["share"] > 0.9 > retrieval["first"]["low"] - 0.1
    assert retrieval["within_10"]["share"] >= retrieval["first"]["share"]
    assert retrieval["chance_first"] == pytest.approx(1 / 80)


def test_a_picture_of_two_patients_is_noticed(report, judged):
    pairs = report["near_duplicates"]
    assert pairs["patients_differ"] >= 1 and pairs["equal"] == 1
    first = pairs["listed"][0]
    files = {name: Path(path).name for name, path, _ in judged.names}
    assert first["patients_differ"] and {files[first["one"]], files[first["other"]]} == {"03-0.png", "again.png"}
    assert any("different patients" in line for line in report["advice"])


def test_false_alarms_are_counted_by_unit(report):
    alarms = report["false_alarms"]
    assert alarms["units"] == report["units"] <= 40
    assert alarms["low"] <= alarms["share"] <= alarms["high"]
    assert sum(alarms["p_values"]) == report["images"] == 81
    assert len(alarms["flagged"]) == min(50, alarms["images_flagged"])


def test_each_scanner_is_judged(report):
    rows = {row["scanner"]: row for row in report["scanners"]}
    assert set(rows) == {"North One", "South Two"} and rows["North One"]["images"] == 41
    assert all(0 <= row["drift"] <= 1 and 0 < row["own_by_chance"] < row["own_neighbours"] for row in rows.values())


def test_pictures_unlike_the_calibration_drift(place, tiny_bundle, tmp_path):
    lines = ["path,patient_id,manufacturer"]
    for number in range(24):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (224, 224)).astype(np.uint8)).save(
            tmp_path / f"{number}.png"
        )
        lines.append(f"{number}.png,n{number},Noise")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    usual = commission(tiny_bundle, [place]).report["scanners"][0]["drift"]
    found = commission(tiny_bundle, [tmp_path / "manifest.csv"]).report
    assert abs(found["scanners"][0]["drift"] - 0.5) > abs(usual - 0.5)


def test_files_that_are_no_images_are_listed(report, judged):
    assert [row["name"] for row in report["skipped"]] == ["file 1"]
    assert judged.names[-1][0] == "file 1" and judged.names[-1][1].endswith("broken.png")


def test_no_file_name_is_in_the_report(report, judged, place):
    """Nor any part of a path: all images are named by their number, and the list leads back to each file."""
    texts = json.dumps(report) + page(report)
    assert not re.search(r"\.png|\bagain\b|" + re.escape(place.name), texts)
    assert [name for name, _, _ in judged.names] == [*(f"image {n}" for n in range(1, 82)), "file 1"]
    assert {Path(path).name for _, path, _ in judged.names} == {file.name for file in place.glob("*.png")}
    assert all(frame == 0 for _, _, frame in judged.names[:-1])


def test_advice_is_given_where_figures_ask_for_it(report):
    quiet = report | {
        "false_alarms": {"share": 0.02, "low": 0.01, "high": 0.04, "threshold": 0.03},
        "scanners": [{"scanner": "North One", "drift": 0.5}],
        "near_duplicates": {"patients_differ": 0},
        "modality": {"agree": 0.99},
        "units": 400,
    }
    assert advice(quiet) == []
    loud = quiet | {"false_alarms": {"share": 0.2, "low": 0.15, "high": 0.25, "threshold": 0.03}}
    loud |= {"scanners": [{"scanner": "North One", "drift": 0.9}], "modality": {"agree": 0.5}, "units": 12}
    said = " ".join(advice(loud))
    assert "medlike calibrate" in said and "North One" in said and "50.0%" in said and "12 units" in said


def test_a_bundle_whose_golden_bits_differ_is_refused(place, tiny_bundle, tmp_path):
    changed = rewrite(
        tiny_bundle, tmp_path / "changed", {"golden.code": np.bitwise_not(tiny_bundle.array("golden.code"))}
    )
    with pytest.raises(BundleError, match="golden bits"):
        commission(changed, [place])


def test_a_bundle_without_verdicts_is_refused(place, tiny_bundle, tmp_path):
    bare = rewrite(tiny_bundle, tmp_path / "bare", None, {"outlier": None})
    with pytest.raises(BundleError, match="gives no outlier verdicts"):
        commission(bare, [place])
