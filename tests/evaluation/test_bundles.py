"""`medlike evaluate` from end to end, on a small collection and random bundles."""

import csv
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from medlike.cli.app import build
from medlike.datasets import read_manifest
from medlike.evaluation.bundles import Settings, evaluate_bundles
from medlike.evaluation.report import plain, write_report
from medlike.evaluation.tables import escape


@pytest.fixture(scope="module")
def outcome(collection, tiny_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    result = evaluate_bundles([str(tiny_bundle.path)], read_manifest(collection), out, settings=Settings(minimum=20))
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
    assert "source-only oracle" in page and not re.search(r"\bnan\b", page)


def test_only_images_whose_terms_allow_it_are_drawn(outcome, collection, monkeypatch):
    from medlike.evaluation import sheets

    drawn = []
    monkeypatch.setattr(sheets, "open_sample", lambda s: drawn.append(s) or sheets_open(s))
    from medlike.datasets import open_sample as sheets_open

    result = outcome[0]
    near = [np.arange(len(result.arena.gallery))] * len(result.arena.queries)
    made = sheets.contact_sheets(result.arena, result.assessments[0].pooled, near)
    assert [s.title.split(":")[0] for s in made] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
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


def test_a_second_run_encodes_nothing_and_finds_the_same(outcome, collection, tiny_bundle, monkeypatch):
    from medlike.inference import Encoder

    monkeypatch.setattr(Encoder, "encode", lambda *a: pytest.fail("encoded again"))
    again = evaluate_bundles(
        [str(tiny_bundle.path)], read_manifest(collection), outcome[1], settings=Settings(minimum=20)
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


def test_everything_mode_uses_every_image_once(collection, tiny_bundle, tmp_path):
    result = evaluate_bundles(
        [str(tiny_bundle.path)], read_manifest(collection), tmp_path,
        settings=Settings(minimum=20, everything=True, floors=False),
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


def test_suspect_training_images_are_voted_on_by_other_patients(collection, tiny_bundle, tmp_path, monkeypatch):
    from medlike.evaluation import alarms, bundles

    seen = {}
    monkeypatch.setattr(alarms, "false_alarms", lambda *a: alarms.Alarm("too many false outlier alarms", ""))
    monkeypatch.setattr(
        alarms, "suspects", lambda features, labels, units: seen.update(units=units) or np.zeros(len(labels))
    )
    data = read_manifest(collection)
    bundles.evaluate_bundles([str(tiny_bundle.path)], data, tmp_path, settings=Settings(minimum=20, floors=False))
    # Two images a patient: units are those of the split, not a number an image.
    assert len(np.unique(seen["units"])) < len(seen["units"])
