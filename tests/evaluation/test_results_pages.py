"""Every number of a results page stands in the results.json beside it: the page is written from it."""

import json
from pathlib import Path

from medlike.evaluation.studies.markdown import study_markdown

RESULTS = Path(__file__).parents[2] / "docs" / "results"
STUDIES = sorted(p.parent for p in RESULTS.glob("*/results.json"))


def test_pages_are_what_the_results_say():
    for folder in STUDIES:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        written = (RESULTS / f"{folder.name}.md").read_text(encoding="utf-8")
        assert written == study_markdown(results), f"run: python -m medlike.evaluation.studies.markdown {folder}"


def test_no_results_page_is_without_results():
    pages = {p.stem for p in RESULTS.glob("*.md") if p.stem != "README"}
    assert pages == {p.name for p in STUDIES}


def test_a_page_holds_question_tables_and_command():
    results = {
        "study": "toy", "question": "Why?", "notes": ["Because."], "cells_done": 1, "cells": 2, "code": "0.1",
        "machine": {"system": "Linux", "cores": 2}, "tables": [
            {"title": "T", "head": ["a", "b"], "rows": [["x|y", 0.12345], ["z", None]]}],
        "configuration": {
            "split": {"digest": "d"}, "settings": {"bundle": "B", "stem": None, "bits": [64], "seeds": [0]},
        },
    }  # fmt: skip
    page = study_markdown(results)
    assert "| x\\|y | 0.123 |" in page and "| z |  |" in page and "1 of 2 cells" in page
    assert "medlike study toy --out DIR --bundle B" in page
