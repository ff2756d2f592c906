"""Every number of a results page stands in the results.json beside it: the page is written from it."""

import json
from pathlib import Path

from medlike_research.docs.markdown import study_markdown

RESULTS = Path(__file__).parents[3] / "docs" / "results"
STUDIES = sorted(p.parent for p in RESULTS.glob("*/results.json"))


def test_pages_are_what_the_results_say():
    for folder in STUDIES:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        written = (RESULTS / f"{folder.name}.md").read_text(encoding="utf-8")
        command = f"python -m medlike_research.docs.markdown {folder}"
        assert written == study_markdown(results, folder.name), f"run: {command}"


def test_no_results_page_is_without_results():
    written_otherwise = {"acir", "bundles", "benchmarks", "protocols"}  # excerpts, benches, and words
    pages = {p.stem for p in RESULTS.glob("*.md")} - written_otherwise
    assert pages == {p.name for p in STUDIES}
    inserts = (RESULTS / "bundles.md").read_text(encoding="utf-8")
    assert inserts.count("<!-- figures: ") >= 8  # tests/project holds them to their results


def test_a_page_holds_question_tables_and_command():
    results = {
        "study": "toy", "question": "Why?", "notes": ["Because."], "cells_done": 1, "cells": 2, "code": "0.1",
        "machine": {"system": "Linux", "cores": 2, "python": "3.11"}, "tables": [
            {"title": "T", "head": ["a", "p"], "rows": [["x|y", 0.12345], ["z", None], ["w", 0.0001]]}],
        "configuration": {
            "data": "dev", "images": 8370, "labels": ["l"] * 21, "stem_sha256": "s",
            "split": {"name": "n", "digest": "d"}, "bundle": {"name": "B", "digest": "e"},
            "settings": {
                "bundle": "B", "stem": "w.safetensors", "bits": [16, 64], "seeds": [0, 1, 2], "epochs": None,
                "preset": "compact", "folds": 3, "limit": None,
            },
        },
    }  # fmt: skip
    page = study_markdown(results | {"cells_missing": ["b-1"]}, "toys")
    assert "Not run: b-1." in page and "`toys/results.json`" in page
    assert "| x\\|y | 0.123 |" in page and "| z |  |" in page and "1 of 2 cells" in page
    assert "| w | 0.0001 |" in page  # a p-value is never written as nothing
    assert "medlike study toy --out DIR --bundle B --stem w.safetensors --bits 16,64 --seeds 3\n" in page
    for fact in (
        "data: dev, 8,370 images, 21 labels", "split: n, digest d", "bundle: B, digest e",
        "stem: w.safetensors, sha256 s", "preset compact, bits 16, 64, seeds 0, 1, 2, epochs: the recipe's",
        "Linux, 2 cores, python 3.11",
    ):  # fmt: skip
        assert fact in page, fact
