"""Every promise of the README names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^(?P<promise>[^|\n]+) \| `(?P<test>[^`]+)`$", re.MULTILINE)

# What the README says -> words of the promises that cover it.
CLAIMS = {
    "offline": "Offline",
    "No other command uses the internet": "no command but `medlike text install` uses the network",
    "Nothing leaves the machine": "Nothing leaves the machine",
    "without a GPU": "No GPU",
    "no torch": "no torch",
    "one defined order, ties included": "One defined order, ties included",
    "A receipt repeats a search": "A receipt repeats a search",
    "survives power cuts": "A power cut loses nothing",
    "erases without a trace": "leaves no trace",
    "keeps identifiers apart": "Identifiers are kept apart",
    "calibrated p-value": "Calibrated outlier verdicts",
}


def promises():
    return {row["promise"]: row["test"] for row in ROW.finditer(PAGE)}


def test_every_promise_names_a_test_that_exists():
    assert len(promises()) >= len(set(CLAIMS.values()))
    for promise, test in promises().items():
        file, _, name = test.partition("::")
        assert (ROOT / file).is_file(), f"{promise}: {file} does not exist"
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name.startswith("test_") and name in names, f"{promise}: {file} has no test {name}"


def test_every_claim_of_the_readme_is_a_promise():
    for claim, words in CLAIMS.items():
        assert claim in README, f"the README no longer says {claim!r}: change it here too"
        assert any(words in promise for promise in promises()), f"no promise in docs/reliability.md covers {claim!r}"


def test_the_page_is_reached_from_the_documentation():
    assert "(reliability.md)" in (ROOT / "docs/index.md").read_text(encoding="utf-8")


def test_the_figures_of_make_soak_have_their_places():
    for name in ("kills", "power cuts", "full disk", "flips", "service"):
        assert re.search(rf"<!-- {name} -->\n.*?<!-- end of {name} -->", PAGE, re.DOTALL), name
