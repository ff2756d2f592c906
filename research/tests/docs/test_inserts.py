"""Figures inside pages come from results alone, and stay where they are put."""

import json

import pytest

from medlike.errors import DatasetError
from medlike_research.docs.inserts import filled

PAGE = "before\n<!-- figures: results/x/results.json | Main -->\nold\n<!-- end of figures -->\nafter\n"


def test_a_table_replaces_what_stood_there(tmp_path):
    folder = tmp_path / "results" / "x"
    folder.mkdir(parents=True)
    tables = [{"title": "Main", "head": ["a", "b"], "rows": [["x|y", 0.12345], ["z", None]]}]
    (folder / "results.json").write_text(json.dumps({"tables": tables}))
    once = filled(PAGE, tmp_path)
    assert "old" not in once and "| x\\|y | 0.123 |" in once and "| z |  |" in once
    assert once.startswith("before\n<!--") and once.endswith("-->\nafter\n")
    assert filled(once, tmp_path) == once
    with pytest.raises(DatasetError, match=r"no table 'Other'; it has: Main"):
        filled(PAGE.replace("| Main", "| Other"), tmp_path)
    assert "| b |\n|---|\n|  |\n\n" in filled(PAGE.replace("| Main", "| Main | z | b"), tmp_path)
    with pytest.raises(DatasetError, match=r"no one column 'c'; it has: a; b"):
        filled(PAGE.replace("| Main", "| Main | z | c"), tmp_path)


def test_lines_of_a_bench_become_a_table(tmp_path):
    page = "<!-- figures: bench x.json | a-p95 = search, p95; start = start; most = share -->\n<!-- end of figures -->"
    assert "`medlike bench x --format json`" in filled(page, tmp_path)
    lines = {"a-p95": ("seconds", 0.04321), "start": ("seconds", 2.345), "most": ("ratio", 1.26)}
    told = {"lines": {name: {"kind": kind, "value": value} for name, (kind, value) in lines.items()}}
    (tmp_path / "x.json").write_text(json.dumps(told))
    once = filled(page, tmp_path)
    assert "| task | time |" in once and "| search, p95 | 43 ms |\n| start | 2.3 s |\n| share | 1.3 |" in once
    with pytest.raises(DatasetError, match=r"no line 'b'; it has: a-p95; start; most"):
        filled(page.replace("start =", "b ="), tmp_path)


def test_what_evaluate_measured_becomes_a_table(tmp_path):
    folder = tmp_path / "results" / "x"
    folder.mkdir(parents=True)
    found = {"bits": 16, "bytes_per_image": 2, "map_expected": 0.51234, "map_interval": [0.4, 0.6]}
    found |= {"map_worst": 0.5, "map_best": 0.55, "map_within_source": None}
    (folder / "results.json").write_text(json.dumps({"methods": {"mine": found}}))
    page = filled(PAGE.replace("| Main", "| methods"), tmp_path)
    assert "| mine | 16 | 2 | 0.512 | 0.400 to 0.600 | 0.500 | 0.550 |  |" in page


def test_outliers_comparisons_and_alarms_of_an_evaluation_become_tables(tmp_path):
    folder = tmp_path / "results" / "x"
    folder.mkdir(parents=True)
    rule = {"detected": 0.9, "false_alarms": 0.08, "false_alarms_interval": [0.05, 0.12]}
    outliers = {"mine": {"auroc": 0.99, "detection_at_3_false_alarms": 0.96, "rule": rule}}
    outliers["floor"] = {"auroc": 0.5, "detection_at_3_false_alarms": 0.1}
    pair = {"method": "yours", "difference": 0.018, "interval": [0.008, 0.029], "p": 0.001, "p_holm": 0.011}
    comparisons = [pair | {"protocol": "pooled"}, pair | {"protocol": "within source", "method": "inside"}]
    alarms = [{"method": "mine", "name": "too many", "message": "8% are flagged"}]
    results = {"methods": {}, "outliers": outliers, "comparisons": comparisons, "alarms": alarms}
    (folder / "results.json").write_text(json.dumps(results))
    page = filled(PAGE.replace("| Main", "| outliers"), tmp_path)
    assert "| mine | 0.990 | 0.960 | 0.900 | 0.080 | 0.050 to 0.120 |" in page and "| floor | 0.500 |" in page
    assert "floor" not in filled(PAGE.replace("| Main", "| outliers | mine"), tmp_path)
    with pytest.raises(DatasetError, match=r"no row 'theirs'; it has: mine; floor"):
        filled(PAGE.replace("| Main", "| outliers | mine; theirs"), tmp_path)
    page = filled(PAGE.replace("| Main", "| comparisons"), tmp_path)
    assert "| yours | 0.018 | 0.008 to 0.029 | 0.001 | 0.011 |" in page and "inside" not in page
    assert "| mine | too many | 8% are flagged |" in filled(PAGE.replace("| Main", "| alarms"), tmp_path)


def test_a_study_that_was_not_run_is_named(tmp_path):
    assert "`medlike study x --out DIR`" in filled(PAGE, tmp_path)


def test_quality_of_a_bundle(tmp_path):
    page = "<!-- figures: bundle medlike-itq-64 -->\n<!-- end of figures -->\n"
    assert "| codes | 0." in filled(page, tmp_path)
    assert "text to image, one side seen | 0." in filled(page.replace("itq-64", "text-16"), tmp_path)
    regional = filled(page.replace("itq-64", "hmar-64 | regional"), tmp_path)
    assert "Entropy of a bit" in regional and "| with a crop | 0." in regional
    assert "does not ship" in filled(page.replace("itq-64", "none-8"), tmp_path)
