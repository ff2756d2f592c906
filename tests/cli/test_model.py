"""medlike model info: figures of the presets, and names it does not know."""

import json
import re

from typer.testing import CliRunner

from medlike.cli.app import build


def run(*arguments):
    return CliRunner().invoke(build(), ["model", "info", *arguments])


def test_json_has_the_published_figures():
    found = run("acir", "--bits", "128", "--format", "json")
    assert found.exit_code == 0
    facts = json.loads(found.stdout)
    assert abs(facts["parameters"] / 156.5e6 - 1) < 2e-3
    assert abs(facts["parameters_with_decoder"] / 170.5e6 - 1) < 2e-3
    assert round(facts["gmacs"], 2) == 10.29
    assert round(facts["gmacs_with_decoder"], 2) == 12.46


def test_the_table_shows_millions():
    found = run("compact")
    assert found.exit_code == 0
    assert re.search(r"compact +64 +3\.\d\d M +4\.\d\d M +0\.\d{3} ", found.stdout)


def test_unknown_names_and_lengths_are_refused():
    found = run("acri")
    assert found.exit_code == 1
    assert "acir" in found.stderr
    found = run("compact", "--bits", "12")
    assert found.exit_code == 1
    assert "multiple of 8" in found.stderr


def test_without_a_name_every_preset_is_listed():
    found = run("--format", "json")
    assert found.exit_code == 0
    assert {"acir", "compact", "hmar", "hmar-compact"} <= {facts["preset"] for facts in json.loads(found.stdout)}
