"""Call sites that make something durable, found in the source, and a switch for each of them.

A site is a call of `os.fsync`, a call of a function of `medlike.files` that syncs, or SQLite's synchronous setting.
"""

import ast
import os
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import medlike

PACKAGE = Path(medlike.__file__).parent
# Where a return is a promise. Reports and checkpoints promise nothing to anybody, and use the same functions.
ROOMS = ("archive", "bundle", "files.py")
SYNCS = (
    "fsync", "write", "write_text", "drafted", "drafted_folder", "sync_files", "sync_folders", "make_folder",
    "make_own_folder", "_sync",
)  # fmt: skip
FULL = "PRAGMA synchronous=FULL"


@dataclass(frozen=True)
class Site:
    """A call, by its file, its first and last line, and what is called."""

    file: str
    first: int
    last: int
    call: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.call}"

    def runs(self) -> bool:
        """Return whether the caller was called, over any number of steps, from here."""
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if self.first <= frame.f_lineno <= self.last and name == str(PACKAGE / self.file):
                return True
            frame = frame.f_back
        return False


def sites() -> list[Site]:
    """Return every site of the rooms whose returns are promises, by file and line."""
    found = set()
    for room in ROOMS:
        place = PACKAGE / room
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = _imported(tree) if room != "files.py" else set(SYNCS)
            for node in ast.walk(tree):
                call = _call(node, imported)
                if call:
                    name = path.relative_to(PACKAGE).as_posix()
                    found.add(Site(name, node.lineno, node.end_lineno or node.lineno, call))
    return sorted(found, key=lambda site: (site.file, site.first))


def _imported(tree: ast.AST) -> set[str]:
    """Names that a module takes from medlike.files one by one."""
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "medlike.files"
        for alias in node.names
    }


def _call(node: ast.AST, imported: set[str]) -> str:
    """What a node calls, where that makes something durable; else "". """
    if not isinstance(node, ast.Call):
        return ""
    to = node.func
    if isinstance(to, ast.Name) and to.id in SYNCS and to.id in imported:
        return to.id
    if isinstance(to, ast.Attribute) and isinstance(to.value, ast.Name) and to.attr in SYNCS:
        return to.attr if to.value.id in ("os", "durable") else ""
    if any(isinstance(given, ast.Constant) and given.value == FULL for given in node.args):
        return FULL
    return ""


def switch_off(site: Site) -> None:
    """From now on nothing that this process does at a site is made durable."""
    fsync, connect = os.fsync, sqlite3.connect

    def forgetful(descriptor):
        if not site.runs():
            fsync(descriptor)

    class Connection(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement == FULL and site.runs():
                statement = "PRAGMA synchronous=OFF"
            return super().execute(statement, *values)

    os.fsync = forgetful
    sqlite3.connect = lambda *given, **named: connect(*given, factory=Connection, **named)
