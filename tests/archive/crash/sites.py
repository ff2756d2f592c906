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


# Sites that no run can miss, and why: (file, function, call).
LATER = "the same folder is synced again before anything relies on it"
UNREACHED = "no operation of order.py comes here"
COVERED = {
    ("archive/storage/backup.py", "database", "make_folder"): LATER,
    ("archive/storage/backup.py", "_unpack", "make_folder"): LATER,
    ("archive/storage/backup.py", "_finish", "sync_folders"): LATER,
    ("archive/storage/backup.py", "_copy_database", "sync_folders"): LATER,
    ("archive/storage/backup.py", "_copy_database", "sync_files"): "SQLite has synced the copy when it closes it",
    ("archive/storage/creation.py", "_create", "make_folder"): LATER,
    ("archive/storage/creation.py", "_create", "sync_folders"): LATER,
    ("archive/storage/identity.py", "create", "make_folder"): LATER,
    ("archive/storage/identity.py", "create", "sync_folders"): LATER,
    ("archive/storage/spool.py", "_set_aside", "make_folder"): LATER,
    ("archive/storage/spool.py", "refuse", "make_folder"): LATER,
    ("files.py", "write_text", "drafted"): UNREACHED,
    ("files.py", "make_own_folder", "make_folder"): "the parent is there already",
}


@dataclass(frozen=True)
class Site:
    """A call, by its file, its first and last line, the function around it, and what is called."""

    file: str
    first: int
    last: int
    function: str
    call: str

    @property
    def covered(self) -> str:
        """Why no run can miss it; "" for a site that every run must miss."""
        return COVERED.get((self.file, self.function, self.call), "")

    def __str__(self) -> str:
        return f"{self.file}:{self.first} {self.function} {self.call}"

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
                    last = node.end_lineno or node.lineno
                    found.add(Site(name, node.lineno, last, _function(tree, node.lineno), call))
    return sorted(found, key=lambda site: (site.file, site.first))


def _imported(tree: ast.AST) -> set[str]:
    """Names that a module takes from medlike.files one by one."""
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "medlike.files"
        for alias in node.names
    }


def _function(tree: ast.AST, line: int) -> str:
    """The innermost function around a line."""
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno).name if around else ""


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
