"""The documentation says what the commands say, and every command and option says something."""

import inspect
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

from medlike_research.docs.reference import added_commands, every_command, own_commands, parameters, reference

ROOT = Path(__file__).parents[3]
PAGES = {False: ROOT / "docs" / "cli.md", True: ROOT / "research" / "commands.md"}  # by: are these commands added?
COMMANDS = {path: (function, epilog) for path, function, epilog in every_command()}
EXPECTED = {
    "medlike demo", "medlike index", "medlike search", "medlike info", "medlike verify", "medlike remove",
    "medlike compact", "medlike backup", "medlike restore", "medlike reindex", "medlike bundle info",
    "medlike study", "medlike bench hamming", "medlike bench train",
}  # fmt: skip


@pytest.mark.parametrize("added", PAGES)
def test_docs_are_what_the_help_says(added):
    written = PAGES[added].read_text(encoding="utf-8")
    assert written == reference(added), f"{PAGES[added].name} differs from the commands' help; run: make docs"


def test_all_commands_are_there():
    assert set(COMMANDS) >= EXPECTED


@pytest.mark.parametrize("path", COMMANDS)
def test_command_says_what_it_does_and_shows_an_example(path):
    function, epilog = COMMANDS[path]
    assert (inspect.getdoc(function) or "").endswith(".")
    assert any(line.startswith(path) for line in (epilog or "").splitlines())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_has_help(path):
    function, _ = COMMANDS[path]
    hints = get_type_hints(function, include_extras=True)
    for name in inspect.signature(function).parameters:
        if hints[name] is typer.Context:
            continue
        facts = get_args(hints[name])[1]
        assert facts.help and facts.help.rstrip().endswith((".", ",")), f"{path}: {name}"


@pytest.mark.parametrize("added", PAGES)
def test_every_command_and_option_is_in_the_docs(added):
    page = PAGES[added].read_text(encoding="utf-8")
    of_all, *sections = page.split("\n## medlike ")
    documented = {f"medlike {section.splitlines()[0]}": section for section in sections}
    sources = added_commands() if added else own_commands()
    expected = {path: function for path, function, _ in sources}
    assert list(documented) == list(expected)
    for path, function in expected.items():
        for word, name, text in parameters(function):
            if f"- `{name}`:" not in documented[path]:
                assert f"- `{name}`:" in of_all and word in documented[path], f"{path} {name}: {text}"


def test_every_page_can_be_reached_from_the_map():
    docs = ROOT / "docs"
    listed = (docs / "index.md").read_text(encoding="utf-8")
    for page in sorted(docs.glob("*.md")):
        assert page.name == "index.md" or f"({page.name})" in listed, page.name
