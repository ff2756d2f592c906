"""Files of a report."""

import json

import numpy as np

from medlike.evaluation.report import plain, template, write_json


def test_json_has_no_nan_and_no_array(tmp_path):
    value = {"a": np.float32(0.5), 3: [float("nan"), float("inf"), np.arange(2)], "t": (1, "x", None)}
    assert plain(value) == {"a": 0.5, "3": [None, None, [0, 1]], "t": [1, "x", None]}
    written = write_json(tmp_path / "results.json", value).read_text()
    assert json.loads(written) == plain(value) and written.endswith("}\n")


def test_templates_have_filters_for_numbers():
    assert template("report.html").environment.filters["three"](0.12345) == "0.123"
    assert template("report.html").environment.filters["between"]([0.1, 0.25]) == "0.100 to 0.250"
