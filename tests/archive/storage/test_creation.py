"""Creating an archive: nothing is overwritten, and an interrupted attempt can be repeated."""

import subprocess
import sys

import pytest

from medlike import Archive
from medlike.archive.storage import creation
from medlike.errors import ArchiveError, ArchiveLocked


def test_refuses_to_overwrite(archive, tmp_path, tiny_bundle):
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(archive.path, tiny_bundle)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ArchiveError, match="is not empty"):
        Archive.create(tmp_path / "full", tiny_bundle)


def test_a_failed_creation_can_be_repeated(tmp_path, tiny_bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(creation, "Store", None)  # as if killed there
        with pytest.raises(AttributeError):
            Archive.create(tmp_path / "archive", tiny_bundle)
    with pytest.raises(ArchiveError, match="is not an archive"):
        Archive.open(tmp_path / "archive")
    with Archive.create(tmp_path / "archive", tiny_bundle) as made:
        assert made.verify() == []
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(tmp_path / "archive", tiny_bundle)


SLOW_CREATION = """
import sys
from medlike import Archive
from medlike.archive.storage import creation
made = creation.Links.create
def slowly(private):
    print("creating", flush=True)
    sys.stdin.readline()
    made(private)
creation.Links.create = slowly
with Archive.create(sys.argv[1], sys.argv[2]) as archive:
    print(archive.verify(), flush=True)
"""


def test_two_processes_that_create_one_archive_do_not_harm_each_other(tmp_path, tiny_bundle):
    command = [sys.executable, "-c", SLOW_CREATION, tmp_path / "a", tiny_bundle.path]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "creating\n"
        with pytest.raises(ArchiveLocked, match=f"being written by process {first.pid} on "):
            Archive.create(tmp_path / "a", tiny_bundle)
        said, _ = first.communicate("go on\n", timeout=60)
    finally:
        first.kill()
    assert said == "[]\n"
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(tmp_path / "a", tiny_bundle)
