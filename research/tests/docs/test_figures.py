"""Figures in README and docs are those of the shipped bundles' measured quality and of the studies' results."""

import json
import re
from pathlib import Path

import pytest

from medlike.bundle import Bundle
from medlike_research.docs.inserts import filled

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), RESULTS / "acir.md", RESULTS / "bundles.md"]


def quality(name):
    return Bundle.load(name).spec["quality"]


@pytest.mark.parametrize("name", ["acir.md", "bundles.md"])
def test_the_results_say_what_the_shipped_bundles_reach(name):
    page = (RESULTS / name).read_text(encoding="utf-8")
    evaluated = json.loads((ROOT / "docs" / "evaluate" / "results.json").read_text(encoding="utf-8"))["methods"]
    for name in ("medlike-compact-64", "medlike-itq-64"):
        of = quality(name)
        assert f"| {name} | 64 | 8 | {of['map_expected']:.3f} |" in page
        assert abs(evaluated[name]["map_expected"] - of["map_expected"]) < 1e-3, f"docs/evaluate is of another {name}"


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_inserted_figures_are_those_of_the_results(page):
    text = page.read_text(encoding="utf-8")
    assert filled(text, page.parent) == text, f"{page.name} differs from the results; run: make docs"


@pytest.mark.parametrize(
    "name",
    ["README.md", "docs/acir.md", "docs/hmar.md", "docs/inference.md", "docs/mcmfh.md", "docs/results/acir.md"],
)
def test_measured_figures_stand_in_inserts_and_nowhere_else(name):
    """Three digits behind the point are measured: an insert is written from results, a sentence could say anything."""
    page = (ROOT / name).read_text(encoding="utf-8")
    words = re.sub(r"<!-- figures: .*?<!-- end of figures -->", "", page, flags=re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?=\|)", words):
        if "Known figures of the paper" not in paragraph:
            found = re.findall(r"(?<![\d.])0\.\d{3}(?!\d| GMAC)", paragraph)
            assert not found, f"{name} says {found} in a sentence; insert the row of its results instead: {paragraph}"


def test_shares_that_acir_states_are_those_of_the_studies():
    page = (RESULTS / "acir.md").read_text(encoding="utf-8")
    seen = set()
    best = {"csq": "CSQ", "acir (SCH corrected)": "SCH alone"}
    for note in _study("methods")["notes"]:
        gain = r"([+-][\d.]+) % \(relative\) against the best "
        code = re.search(gain + r"code that owes nothing to ours, (.+?) \(p", note)
        floor = re.search(gain + r"floor in floats, .+? \(p = ([\d.]+)", note)
        if code and floor:
            doubt = "" if float(floor[2]) < 0.05 else ", not significant"
            bits, over = note.split(" ")[0], f"{float(code[1]):.0f} % ({best[code[2]]})"
            assert f"| {bits} | {over} | {float(floor[1]):.0f} %{doubt} |" in page
            seen.add(bits)
    assert seen == {"16", "32", "64", "128"}
    (table,) = [t for t in _study("ablation")["tables"] if t["title"].startswith("Compared with")]
    lost = {row[0]: f"{-float(row[4].removesuffix(' %')):.0f} %" for row in table["rows"] if row[1] == "pooled"}
    for change, name in (
        ("released loss in place of the corrected one", "SCH released"),
        ("without DaRF", "without DaRF"),
        ("without the auxiliary classifier", "no auxiliary classifier"),
        ("deep queries in place of shallow ones", "DaRF with deep queries"),
        ("MLP in place of the KAN head", "MLP head"),
    ):
        assert f"| {change} | {lost[name]} |" in page, change
    p = {row[0]: row[6] for row in table["rows"] if row[1] == "within source"}
    assert p["H at its mean"] < 0.05 < p["H shuffled"]
    full = [row[2] for row in table["rows"] if row[1] == "pooled" and row[0].startswith("full recipe")]
    assert max(full) - min(full) < 0.0025


def _study(name):
    return json.loads((RESULTS / name / "results.json").read_text(encoding="utf-8"))


#: Bundles of the same graph and weights, whose outlier part was calibrated otherwise or that knew less beside it:
#: former digest -> name.
FORMER = {
    "a20a90c2dbc8357029107753c721bc37b93db3ff3bf2fc86c122658e6f5938b9": "medlike-compact-64",
    "03c5b4d045ba98a6652b4a08a2b1dc3e69bdc7b52a657b21c6c330ccdfa95c2c": "medlike-hmar-64",
    "8ec7db92fb9b539b71282bca65e473fd1fe200688bbb6c83fe4ec6bd52b5f57d": "medlike-compact-64",
    "8b4b96717e12fda8b024fa02967271f768c568151f2fbb848b7f620a99bdfa26": "medlike-hmar-64",
    "cca19922ef6c4060d73d83badd82128487f99ee9dfcb12324f1487a0f74ded52": "medlike-itq-64",
}


def test_results_are_of_the_bundles_that_ship():
    def ships(name, digest):
        return FORMER.get(digest) == name or digest == Bundle.load(name).digest

    for file in sorted(RESULTS.glob("*/results.json")):
        results = json.loads(file.read_text(encoding="utf-8"))
        named = results["configuration"].get("bundle")
        if named:
            assert ships(named["name"], named["digest"]), f"{file}: run this study again"
            if named["digest"] in FORMER and file.parent.name in ("ood", "robustness", "known-item"):
                assert any("former part" in note for note in results["notes"]), f"{file}: say so, or run it again"
    measured = json.loads((RESULTS / "benchmarks" / "encode.json").read_text(encoding="utf-8"))
    for name, digest in measured["facts"]["bundle_digests"].items():
        assert ships(name, digest), f"benchmarks/encode.json: {name} has changed since, run it again"
