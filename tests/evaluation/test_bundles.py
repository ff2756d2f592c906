"""`medlike evaluate` from end to end, on a small collection and random bundles."""

import csv
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike.cli.app import build
from medlike.datasets import Dataset, read_manifest
from medlike.errors import DatasetError
from medlike.evaluation.alarms import false_alarms_of_parts
from medlike.evaluation.bundles import evaluate_bundles
from medlike.evaluation.outliers import flagged_too_often
from medlike.evaluation.report import plain, write_report
from medlike.evaluation.settings import EvaluationSettings
from medlike.evaluation.tables import escape
from medlike.metrics import bootstrap_interval


@pytest.fixture(scope="module")
def outcome(collection, tiny_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    settings = EvaluationSettings(minimum=20)
    result = evaluate_bundles([str(tiny_bundle.path)], read_manifest(collection), out, settings=settings)
    write_report(result, out)
    return result, out


def test_the_results_hold_every_protocol(outcome):
    results = json.loads((outcome[1] / "results.json").read_text())
    main = results["methods"]["tiny-64"]
    assert results["labels"] == ["bars", "disc", "ring"]
    assert main["bits"] == 64 and main["bytes_per_image"] == 8 and main["encode_ms_per_image"] > 0
    assert main["map_worst"] <= main["map_expected"] <= main["map_best"]
    assert set(main["within_source"]) == {"north", "south"}
    assert set(main["by_label"]) == {"bars", "disc", "ring"} and set(main["by_modality"]) == {"CT"}
    assert main["train_in_gallery"]["queries"] == main["queries"] == results["queries"]
    assert len(main["recall_within_radius"]) == 17
    assert results["split"]["digest"] and (outcome[1] / "split.json").is_file()
    assert 0 < results["source_oracle"]["map_expected"] < 1
    names = set(results["methods"])
    assert {"fingerprint 16x16", "perceptual hash", "tiny-64, float features"} <= names
    assert all(c["baseline"] == "tiny-64" and 0 <= c["p"] <= c["p_holm"] <= 1 for c in results["comparisons"])
    assert len(results["comparisons"]) == 2 * (len(names) - 1)


def test_outlier_figures_are_on_query_images_with_the_colour_floor_beside_them(outcome):
    figures = outcome[0].results["outliers"]
    floor = figures["colour spread of the stored image (floor)"]
    assert floor["auroc"] == 1.0  # the noise is in colour, the collection is grey
    assert figures["tiny-64"]["outside"] == floor["outside"] == 12
    assert set(figures["tiny-64"]["rule"]["false_alarms_by_source"]) == {"north", "south"}


def test_the_page_stands_alone_and_its_plots_are_svg(outcome):
    page = (outcome[1] / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) >= 6
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    # The bundle lies at a path of this machine, of which a page to be passed on names the end only.
    data = outcome[0].results["data"]["name"]
    assert f"medlike evaluate --bundle tiny-64 --data {data} --out DIR --k 100 --minimum 20<" in page
    assert "source-only oracle" in page and not re.search(r"\bnan\b", page)


def test_only_images_whose_terms_allow_it_are_drawn(outcome, collection, monkeypatch):
    from medlike.evaluation import sheets

    drawn = []
    monkeypatch.setattr(sheets, "open_sample", lambda s: drawn.append(s) or sheets_open(s))
    from medlike.datasets import open_sample as sheets_open

    result = outcome[0]
    asked = []

    def near(row):
        asked.append(row)
        return np.arange(len(result.arena.gallery))

    made = sheets.contact_sheets(result.arena, result.assessments[0].pooled, near)
    assert [s.title.split(":")[0] for s in made] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert len(asked) == 9  # not every query's ranking
    assert drawn and all(s.licence == "CC BY 4.0" for s in drawn)
    drawn.clear()
    sheets.contact_sheets(result.arena, result.assessments[0].pooled, near, draw_all=True, each=1)
    assert {s.licence for s in drawn} == {"CC BY 4.0", "not stated"}


def test_tables_say_what_the_results_say(outcome):
    with (outcome[1] / "methods.csv").open() as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    for name, figures in outcome[0].results["methods"].items():
        assert float(rows[name]["mAP"]) == figures["map_expected"]
    tex = (outcome[1] / "methods.tex").read_text()
    assert f"{outcome[0].results['methods']['tiny-64']['map_expected']:.3f}" in tex
    assert escape("a_b & 5% {x} \\") == r"a\_b \& 5\% \{x\} \textbackslash{}"


def test_every_part_has_an_interval_in_every_form(outcome):
    results = json.loads((outcome[1] / "results.json").read_text())
    main, page = results["methods"]["tiny-64"], (outcome[1] / "report.html").read_text()
    for part, names in (
        ("by_label", {"bars", "disc", "ring"}),
        ("by_source", {"north", "south"}),
        ("by_modality", {"CT"}),
    ):
        with (outcome[1] / f"{part}.csv").open() as stream:
            rows = {row[part.removeprefix("by_")]: row for row in csv.DictReader(stream)}
        tex = (outcome[1] / f"{part}.tex").read_text()
        assert set(rows) == set(main[part]) == names
        for name in names:
            low, high = main[f"{part}_interval"][name]
            assert low < main[part][name] < high
            cells = [float(rows[name][f"tiny-64{end}"]) for end in ("", " low", " high")]
            assert cells == [main[part][name], low, high]
            assert int(rows[name]["units"]) == main[f"{part}_units"][name] < main[f"{part}_queries"][name]
            assert f"{main[part][name]:.3f} ({low:.3f} to {high:.3f})" in tex and f"{low:.3f} to {high:.3f}" in page
    retrieval = outcome[0].assessments[0].pooled
    own = retrieval.queries.column("label") == "disc"
    expected = bootstrap_interval(retrieval.ap[own], retrieval.units[own])
    assert main["by_label_interval"]["disc"] == pytest.approx([expected.low, expected.high])


def test_known_images_flagged_by_mistake_are_shown_by_modality_and_source(outcome):
    rule = outcome[0].results["outliers"]["tiny-64"]["rule"]
    page = (outcome[1] / "report.html").read_text()
    for key in ("false_alarms_by_modality", "false_alarms_by_source", "detected_by_kind"):
        for low, high in rule[f"{key}_interval"].values():
            assert f"<td>{low:.3f} to {high:.3f}</td>" in page
    rule = {
        "threshold": 0.03,
        "false_alarms_by_modality": {"MG": 0.84, "CT": 0.03},
        "false_alarms_by_modality_interval": {"MG": [0.7, 0.95], "CT": [0.0, 0.1]},
        "false_alarms_by_modality_queries": {"MG": 32, "CT": 50},
        "false_alarms_by_source": {"one": 0.9, "alone": 1.0},
        "false_alarms_by_source_interval": {"one": [0.8, 1.0], "alone": [None, None]},
        "false_alarms_by_source_queries": {"one": 30, "alone": 2},
    }
    assert flagged_too_often(rule) == [
        "source one 90% (80% to 100% of 30 images)", "modality MG 84% (70% to 95% of 32 images)"
    ]  # fmt: skip
    alarm = false_alarms_of_parts(flagged_too_often(rule))
    assert "modality MG 84%" in alarm.message and false_alarms_of_parts([]) is None


def test_a_second_run_encodes_nothing_and_finds_the_same(outcome, collection, tiny_bundle, monkeypatch):
    from medlike.inference import Encoder

    monkeypatch.setattr(Encoder, "encode", lambda *a: pytest.fail("encoded again"))
    again = evaluate_bundles(
        [str(tiny_bundle.path)], read_manifest(collection), outcome[1], settings=EvaluationSettings(minimum=20)
    )
    assert plain(again.results) == plain(outcome[0].results)


def test_the_command_compares_two_bundles(collection, tiny_bundle, tiny_regional_bundle, tmp_path):
    result = CliRunner().invoke(
        build(),
        ["evaluate", "-b", str(tiny_bundle.path), "-b", str(tiny_regional_bundle.path),
         "--data", str(collection), "--out", str(tmp_path), "--minimum", "20", "--no-floors",
         "--format", "json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    results = json.loads(result.stdout)
    assert [m for m in results["methods"] if "," not in m] == ["tiny-64", "tiny-regional-64"]
    assert (tmp_path / "report.html").is_file()


def test_what_is_known_of_sources_is_given_in_a_file(collection, tiny_bundle, tmp_path):
    (tmp_path / "sources.csv").write_text("source,apart,caution\nsouth,yes,scanned from paper\n")
    result = CliRunner().invoke(
        build(),
        ["evaluate", "-b", str(tiny_bundle.path), "--data", str(collection), "--out", str(tmp_path), "--minimum", "20",
         "--no-floors", "--sources", str(tmp_path / "sources.csv"), "--format", "json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert list(found["methods"]["tiny-64"]["by_source"]) == ["north"]
    assert found["traps"] == ["south (75 images): scanned from paper."]


def test_everything_mode_uses_every_image_once(collection, tiny_bundle, tmp_path):
    result = evaluate_bundles(
        [str(tiny_bundle.path)], read_manifest(collection), tmp_path,
        settings=EvaluationSettings(minimum=20, everything=True, floors=False),
    )  # fmt: skip
    assert result.results["queries"] == result.results["gallery"] == 150
    assert "train_in_gallery" not in result.results["methods"]["tiny-64"]
    assert result.results["split"] is None


def test_a_collection_without_frequent_labels_is_refused(collection, tiny_bundle, tmp_path):
    result = CliRunner().invoke(
        build(),
        ["evaluate", "-b", str(tiny_bundle.path), "--data", str(collection), "--out", str(tmp_path),
         "--minimum", "99"],
    )  # fmt: skip
    assert result.exit_code == 1 and "--minimum" in result.stderr


def test_labels_with_too_few_images_are_named_and_one_label_is_refused(collection, tiny_bundle, tmp_path):
    data = read_manifest(collection)
    rare = {sample.path for sample in [s for s in data if s.label == "disc"][:3]}
    other = Dataset(data.name, tuple(replace(s, label="rare") if s.path in rare else s for s in data))
    said, settings = [], EvaluationSettings(minimum=20, floors=False)
    found = evaluate_bundles([str(tiny_bundle.path)], other, tmp_path / "a", settings=settings, say=said.append)
    assert found.results["labels_left_out"] == {"rare": 3}
    assert "labels with fewer than 20 images take no part: rare (3)" in said
    alone = data.where(lambda sample: sample.label == "disc")
    for chosen in (settings, replace(settings, everything=True)):
        with pytest.raises(DatasetError, match=r"1 labels with at least 20 images \(disc\).*lower --minimum"):
            evaluate_bundles([str(tiny_bundle.path)], alone, tmp_path / "b", settings=chosen)


def test_suspect_training_images_are_voted_on_by_other_patients(collection, tiny_bundle, tmp_path, monkeypatch):
    from medlike.evaluation import alarms, bundles

    seen = {}
    monkeypatch.setattr(alarms, "false_alarms", lambda *a: alarms.Alarm("too many false outlier alarms", ""))
    monkeypatch.setattr(
        alarms, "suspects", lambda features, labels, units: seen.update(units=units) or np.zeros(len(labels))
    )
    data = read_manifest(collection)
    measured = bundles.evaluate_bundles(
        [str(tiny_bundle.path)], data, tmp_path, settings=EvaluationSettings(minimum=20, floors=False)
    )
    # Two images a patient: units are those of the split, not a number an image.
    assert len(np.unique(seen["units"])) < len(seen["units"])

    write_report(measured, tmp_path)
    suspects = measured.results["methods"]["tiny-64"]["suspect_training_images"]
    written = (tmp_path / "results.json").read_text() + (tmp_path / "report.html").read_text()
    assert suspects[0]["name"] in written and not re.search(r"\d\.png", written)
    with (tmp_path / "names.csv").open(newline="") as file:
        listed = {row["name"]: row["path"] for row in csv.DictReader(file)}
    assert set(listed) == {suspect["name"] for suspect in suspects}
    assert all(data[int(name.removeprefix("image ")) - 1].path == path for name, path in listed.items())
    for name in ("names.csv", "split.json"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    write_report(replace(measured, names=[]), tmp_path)
    assert not (tmp_path / "names.csv").exists(), "the list of an earlier report would name other files"
