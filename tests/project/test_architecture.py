"""ARCHITECTURE.md names files and functions that exist, and every room of the package."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "medlike"
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
ANSWERS = re.findall(r"^\| [^|]+\? \| `([^`]+)` \| `(\w+)` \|$", PAGE, re.MULTILINE)
FILES = sorted(set(re.findall(r"`((?:\w+/)*\w+\.py)`", PAGE)))


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_it_names_exists(name):
    assert (PACKAGE / name).is_file() or (ROOT / name).is_file()


@pytest.mark.parametrize(("file", "name"), ANSWERS)
def test_an_answer_is_defined_where_it_says(file, name):
    source = (PACKAGE / file).read_text(encoding="utf-8")
    assert re.search(rf"^(?:def|class) {name}\b", source, re.MULTILINE)


def test_its_questions_are_answered():
    assert len(ANSWERS) >= 15
    for asked in ("turned into a mask", "equal distances put in order", "received file become a row", "a page drawn"):
        assert asked in PAGE


def test_every_room_is_in_its_table():
    rooms = re.findall(r"^\| `([\w/.]+)` \|", PAGE, re.MULTILINE)
    listed = {room.split("/")[0].removesuffix(".py") for room in rooms}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there - {"__init__", "__main__"} <= listed
    for room in rooms:
        assert (PACKAGE / room).exists(), f"no room {room}"
