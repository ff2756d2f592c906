"""Writes that rebuild whole files say how much room they need, and refuse where there is less."""

import shutil
from types import SimpleNamespace

import pytest

from medlike.archive.storage import room, upkeep
from medlike.errors import ArchiveFull


@pytest.fixture
def disk(monkeypatch):
    """Say how many bytes are free."""

    def free(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=count))

    return free


WRITES = {
    "compact": lambda archive: archive.compact(),
    "erase": lambda archive: archive.remove(archive.ids()[0], erase=True),
    "reindex": lambda archive: archive.reindex(),
    "upgrade": lambda archive: archive.upgrade(),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_room_is_refused_with_the_figures_before_it_begins(archive, pictures, disk, write):
    archive.add(pictures(3))
    generation = archive._store.generation()
    disk(12_345)
    with pytest.raises(ArchiveFull, match=r"needs up to [\d.]+ MB on the disk of .*0\.0 MB are free: free space"):
        WRITES[write](archive)
    assert archive._store.generation() == generation and archive.verify() == []
    disk(10**12)
    WRITES[write](archive)
    assert archive.verify() == []


def test_what_is_said_is_enough(archive, pictures, monkeypatch):
    """Bytes that the store, its log and its temporary copy have at most while a compaction runs."""
    archive.add(pictures(60))
    archive.remove(archive.ids()[:30])
    needed, before, seen = archive.room("compact"), archive.info()["bytes"]["store"], []

    def watch(store, patience):
        seen.append(sum(path.stat().st_size for path in archive.path.glob("store.sqlite*")))
        return emptied(store, patience)

    emptied = upkeep.log_emptied
    monkeypatch.setattr(upkeep, "log_emptied", watch)
    archive.compact()
    assert seen[0] - before <= needed.archive


def test_disks_are_counted_apart(tmp_path, disk, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "b"))
    disk(5 * 10**6)
    one = room.Room("compacting", tmp_path / "a", 3 * 10**6, 3 * 10**6)
    with pytest.raises(ArchiveFull, match=r"up to 6\.0 MB"):
        one.require()
    device, mode = iter(range(100)), tmp_path.stat().st_mode
    monkeypatch.setattr(
        type(tmp_path), "stat", lambda path, **_: SimpleNamespace(st_dev=next(device), st_mode=mode)
    )
    one.require()
    assert str(one).count("up to 3.0 MB") == 2


def test_much_room_is_shown_in_gigabytes(tmp_path, disk):
    disk(77_622_300_000)
    assert str(room.Room("compacting", tmp_path, 3 * 10**6)).endswith("(77.6 GB free)")


def test_a_reindex_needs_more_under_another_bundle(archive, pictures, tiny_bundle):
    archive.add(pictures(3))
    assert archive.room("reindex", tiny_bundle).archive > archive.room("reindex").archive > 0
