"""Figures inside pages come from results alone, and stay where they are put."""

import json
from pathlib import Path

import pytest

from medlike.errors import DatasetError
from medlike.evaluation.studies.inserts import filled

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


def test_what_evaluate_measured_becomes_a_table(tmp_path):
    folder = tmp_path / "results" / "x"
    folder.mkdir(parents=True)
    found = {"bits": 16, "bytes_per_image": 2, "map_expected": 0.51234, "map_interval": [0.4, 0.6]}
    found |= {"map_worst": 0.5, "map_best": 0.55, "map_within_source": None}
    (folder / "results.json").write_text(json.dumps({"methods": {"mine": found}}))
    page = filled(PAGE.replace("| Main", "| methods"), tmp_path)
    assert "| mine | 16 | 2 | 0.512 | 0.400 to 0.600 | 0.500 | 0.550 |  |" in page


def test_a_study_that_was_not_run_is_named(tmp_path):
    assert "`medlike study x --out DIR`" in filled(PAGE, tmp_path)


def test_quality_of_a_bundle(tmp_path):
    page = "<!-- figures: bundle medlike-itq-64 -->\n<!-- end of figures -->\n"
    assert "| codes | 0." in filled(page, tmp_path)
    assert "text to image, one side seen | 0." in filled(page.replace("itq-64", "text-16"), tmp_path)
    assert "does not ship" in filled(page.replace("itq-64", "none-8"), tmp_path)


@pytest.mark.parametrize("name", ["acir.md", "mcmfh.md"])
def test_the_figures_in_the_docs_are_those_of_the_results(name):
    page = Path(__file__).parents[2] / "docs" / name
    text = page.read_text(encoding="utf-8")
    assert filled(text, page.parent) == text, f"docs/{name} differs from the results; run: make docs"
