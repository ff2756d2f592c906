"""Who may read the files of an archive: its owner alone, whatever the umask, unless it was made to be shared."""

import json
import os
import stat
from contextlib import contextmanager

import pytest

from medlike import Archive, Query
from medlike.archive.index import index as index_module


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder):
    return {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


def worked_with(path, bundle, encoder, text_bundle, captioned, shared):
    """Make an archive and let every operation that writes write, log and shared memory of SQLite included."""
    Archive.create(path, bundle, shared=shared, text_bundle=text_bundle, encoder=encoder).close()
    with Archive.open(path, encoder=encoder) as archive:
        archive.add(captioned(30), pixels="copy")
        archive.receive(b"no image", "broken.png")
        archive.drain()
        archive.receive((captioned().parent / "0001.png").read_bytes(), "late.png", {"age": 3})
        hits = archive.search(Query(text="effusion"), k=3).hits
        archive.remove([hits[0].id])
        archive.remove([hits[1].id], erase=True)
        archive.reindex()
        archive.compact()
        archive.backup(path.with_name("backup"), links=True)
        archive.search(Query(id=hits[2].id))
        found = modes(path)  # with the connections open
    Archive.restore(path.with_name("backup"), path.with_name("restored"), encoder=encoder).close()
    return found


@pytest.mark.parametrize("mask", [0o000, 0o022])
def test_an_archive_is_its_owners_alone(
    tmp_path, tiny_bundle, encoder, tiny_text_bundle, captioned, monkeypatch, mask
):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    (tmp_path / "archive").mkdir(0o755)  # an empty folder that is there is narrowed
    with umask(mask):
        found = worked_with(tmp_path / "archive", tiny_bundle, encoder, tiny_text_bundle, captioned, False)
    store = {"store.sqlite", "store.sqlite-wal", "store.sqlite-shm"}
    assert store | {"writer.lock", "index.json", "archive.json"} <= {path.name for path in found}
    for folder in ("backup", "restored"):
        found |= modes(tmp_path / folder)
    open_to_others = {str(path): oct(mode) for path, mode in found.items() if mode & 0o077}
    assert not open_to_others


def test_a_shared_archive_can_be_read_by_others_but_for_its_private_parts(
    tmp_path, tiny_bundle, encoder, tiny_text_bundle, captioned, monkeypatch
):
    monkeypatch.setattr(index_module, "WORTH_A_FILE", 4)
    path = tmp_path / "archive"
    with umask(0o027):
        Archive.create(path, tiny_bundle, shared=True, text_bundle=None, encoder=encoder).close()
    with umask(0o077), Archive.open(path, encoder=encoder) as archive:  # a later umask changes nothing
        assert archive._folder.shared
        archive.add(captioned(30), pixels="copy")
        archive.backup(tmp_path / "backup")
        found = modes(path)
    with umask(0o022):
        Archive.restore(tmp_path / "backup", tmp_path / "restored", encoder=encoder).close()
    assert stat.S_IMODE((tmp_path / "restored" / "store.sqlite").stat().st_mode) == 0o644
    assert not any(mode & 0o077 for mode in modes(tmp_path / "backup").values())
    for at, mode in found.items():
        closed = {"private", "spool"} & set(at.relative_to(path).parts)
        assert mode == ((0o700 if at.is_dir() else 0o600) if closed else (0o750 if at.is_dir() else 0o640)), at


def test_verify_names_an_archive_that_was_opened_to_others(archive):
    assert archive.verify() == []
    archive.path.chmod(0o755)
    (problem,) = archive.verify()
    assert problem.part == "permissions" and f"chmod -R go= {archive.path}" in problem.detail


def test_an_archive_of_an_earlier_medlike_stays_as_open_as_it_is(archive, captioned):
    file = archive.path / "archive.json"
    facts = json.loads(file.read_text())
    del facts["shared"]
    file.write_text(json.dumps(facts))
    archive.path.chmod(0o755)
    with Archive.open(archive.path, encoder=archive._bundles.current().encoder) as old:
        assert old.verify() == []
        old.add(captioned(3))
        old._bundles.current().folder.write()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and "shared" not in json.loads(file.read_text())
