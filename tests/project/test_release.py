"""A release is described alike everywhere: one version, a changelog entry, and the Pythons that are tested."""

import re
import tomllib
from pathlib import Path

import medlike

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_there_is_one_version():
    version = PROJECT["version"]
    assert medlike.__version__ == version
    assert f"\nversion: {version}\n" in read("CITATION.cff")
    assert re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", read("CHANGELOG.md"), re.MULTILINE)


def test_the_changelog_has_a_place_for_what_comes():
    heads = re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert heads[1:] == sorted(heads[1:], key=lambda v: [int(part) for part in v.split(".")], reverse=True)


def test_the_pythons_that_are_promised_are_tested():
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    (tested,) = re.findall(r"python: \[(.+?)\]", read(".github/workflows/test.yml"))
    assert re.findall(r"3\.\d+", tested) == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    assert f"Python {promised[0]} to {promised[-1]}" in read("CONTRIBUTING.md")


def test_papers_are_cited():
    cited = set(re.findall(r"arXiv:(\d+\.\d+)", read("CITATION.cff")))
    for page in ("acir", "hmar", "mcmfh"):
        (paper,) = set(re.findall(r"arXiv (\d+\.\d+)", read(f"docs/{page}.md")))
        assert paper in cited


def test_nothing_names_a_machine():
    files = [ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff", *ROOT.glob("*.md")]
    files += [path for path in (ROOT / ".github").rglob("*") if path.is_file()]
    assert len(files) > 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.])/(?:work|root|home|opt|tmp|usr)/|file://|localhost", text), file
