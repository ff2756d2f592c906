"""The drawing of the rooms in ARCHITECTURE.md is that of the imports as they are, and it draws what it says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("import_graph", ROOT / "tools" / "import_graph.py")
import_graph = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(import_graph)


def test_the_drawing_is_that_of_the_imports():
    drawn = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    assert drawn == import_graph.svg(*import_graph.room_edges()), "docs/images/rooms.svg is stale; run: make docs"


def test_the_architecture_shows_it():
    assert "(docs/images/rooms.svg)" in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_an_arrow_that_a_longer_way_replaces_is_left_out():
    edges = {("cli", "archive"), ("archive", "codes"), ("cli", "codes"), ("codes", "errors"), ("cli", "errors")}
    assert import_graph.reduced(edges) == {("cli", "archive"), ("archive", "codes"), ("codes", "errors")}
    assert import_graph.levels(["cli", "archive", "codes", "errors"], edges) == {
        "errors": 0, "codes": 1, "archive": 2, "cli": 3,
    }  # fmt: skip


def test_a_circle_is_drawn_as_one():
    edges = {("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}
    assert import_graph.circles(edges) == {("b", "c"), ("c", "b")}
    drawing = import_graph.svg(["a", "b", "c", "d"], edges)
    assert drawing.count('class="circle"') == 2


@pytest.mark.parametrize(
    ("module", "room"),
    [
        ("medlike", ""),
        ("medlike.errors", "errors"),
        ("medlike.archive.archive", "archive"),
        ("medlike.archive.index.segment", "archive.index"),
        ("medlike.training.losses.csq", "training"),
    ],
)
def test_a_module_belongs_to_its_room(module, room):
    assert import_graph.room_of(module) == room
