"""Files and folders are whole or not there, with the permissions that were asked for; one module writes them so."""

import ast
import os
from pathlib import Path

import pytest

from medlike.errors import ArchiveError
from medlike.files import disk_errors, drafted, drafted_folder, write_text

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("alone", [False, True])
def test_a_file_takes_the_place_of_the_old_one_at_the_end_of_the_block(tmp_path, alone):
    target = write_text(tmp_path / "report.html", "old")
    with drafted(target, alone=alone) as draft:
        draft.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_leaves_the_old_file_and_no_draft(tmp_path, alone):
    target = write_text(tmp_path / "report.html", "old")
    with pytest.raises(RuntimeError), drafted(target, alone=alone) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_draft_that_a_killed_process_left_is_overwritten_where_only_one_writes(tmp_path):
    target = tmp_path / "checkpoint.pt"
    if os.fork() == 0:
        with drafted(target, alone=True) as draft:
            draft.write_text("what the killed process had written")
            os._exit(0)
    os.wait()
    assert len(list(tmp_path.iterdir())) == 1
    with drafted(target, alone=True) as draft:
        assert draft.read_text() == ""
        draft.write_text("whole")
    assert target.read_text() == "whole" and list(tmp_path.iterdir()) == [target]


def test_a_file_has_the_permissions_of_the_umask_unless_others_are_given(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "usual", "")
        with drafted(tmp_path / "private", 0o600):
            pass
        with drafted_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"usual": 0o640, "private": 0o600, "folder": 0o750}


def test_a_folder_is_whole_or_not_there_and_the_first_writer_wins(tmp_path):
    target = tmp_path / "kept"
    with pytest.raises(RuntimeError), drafted_folder(target) as draft:
        (draft / "half").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with drafted_folder(target) as draft:
        with drafted_folder(tmp_path / "other") as faster:
            (faster / "first").touch()
        (tmp_path / "other").rename(target)
        (draft / "second").touch()
    assert [file.name for file in target.iterdir()] == ["first"] and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_to_be_replaced_makes_way_at_the_end(tmp_path):
    target = tmp_path / "bundle"
    for name in ("first", "second"):
        with drafted_folder(target, replace=True) as draft:
            (draft / name).touch()
    assert [file.name for file in target.iterdir()] == ["second"] and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_missing_is_no_matter_of_permissions(tmp_path):
    page = tmp_path / "none" / "page.html"
    with pytest.raises(ArchiveError, match=r"make the folder .*/none first"), disk_errors(page):
        write_text(page, "")


def by_hand(path):
    """Calls of a module that sync, rename or make drafts: os.fsync(...), path.replace(target), tempfile.mkstemp()."""
    calls = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, given = node.func.attr, len(node.args) + len(node.keywords)
            # One argument: strings, dates and dataclasses are replaced with two or by name.
            moves = name in ("rename", "replace") and ((given == 1 and not node.keywords) or is_of(node, "os"))
            if moves or name in SYNCS or (is_of(node, "shutil") and name == "move"):
                calls.append(name)
    return calls


SYNCS = ("fsync", "fdatasync", "sync_file_range", "mkstemp", "mkdtemp", "NamedTemporaryFile")


def is_of(call, module):
    return isinstance(call.func.value, ast.Name) and call.func.value.id == module


def test_only_files_py_syncs_and_renames():
    """A writer that drafts and renames by hand forgets the sync before or the folder after."""
    code = [*(ROOT / "src" / "medlike").rglob("*.py"), *(ROOT / "research" / "src").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): by_hand(path) for path in code}
    assert sorted(found.pop("src/medlike/files.py")) == ["fsync", "rename"]
    # Benches measure what the disk itself takes, and set its cache aside.
    assert found.pop("research/src/medlike_research/speed/ingest.py") == ["fsync"] * 2
    assert found.pop("research/src/medlike_research/speed/memory.py") == ["fsync"]
    assert {path: calls for path, calls in found.items() if calls} == {}
