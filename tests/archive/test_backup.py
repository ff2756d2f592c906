"""Backups are taken while the archive is in use, and become archives again."""

import threading

import pytest

from medlike import Archive, Query
from medlike.archive import backup, ingest
from medlike.archive.sealing import seal, unseal
from medlike.errors import ArchiveError


@pytest.fixture
def filled(archive, pictures, scan):
    archive.add(pictures(4))
    archive.add([scan("a.dcm", SOPInstanceUID="1.2.3"), scan("b.dcm", seed=1)], pixels="copy")
    archive.receive(scan("c.dcm", seed=2).read_bytes(), "c.dcm")
    archive.remove([archive.store.images([1])[1].id])
    return archive


def test_a_restored_archive_answers_the_same(filled, tmp_path, pictures, encoder, scan):
    query = Query(image=pictures(1) / "0000.png")
    expected = filled.search(query, k=9)
    report = filled.backup(tmp_path / "backup")
    assert (report.images, report.generation, report.links) == (6, filled.store.generation(), False)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.verify() == []
        found = again.search(query, k=9)
        assert [(hit.id, hit.distance) for hit in found.hits] == [
            (hit.id, hit.distance) for hit in expected.hits
        ]
        # With the id key a stored image is known again; without the links nobody knows where it came from.
        assert all(hit.source is None for hit in found.hits)
        report = again.add(scan("a.dcm", SOPInstanceUID="1.2.3"))
        assert report.added == 0
        assert again.remove([hit.id for hit in found.hits[:1]], erase=True).erased == 1
        assert again.verify() == []


def test_links_are_saved_on_request_only(filled, tmp_path, encoder):
    filled.backup(tmp_path / "bare")
    assert not (tmp_path / "bare" / "private" / "links.sqlite").exists()
    filled.backup(tmp_path / "whole", links=True)
    with Archive.restore(tmp_path / "whole", tmp_path / "again", encoder=encoder) as again:
        id = again.identity.public_id("1.2.3", 0, "")
        assert again.source(id) == filled.source(id) and again.source(id)["sop_uid"] == "1.2.3"
        assert again.verify() == []


def test_received_files_are_saved_too(archive, scan, tmp_path, encoder):
    archive.receive(scan("c.dcm", SOPInstanceUID="1.2.9").read_bytes(), "c.dcm")
    archive.backup(tmp_path / "backup")
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.info()["received"] == 1 and again.drain().added == 1


def test_the_key_can_be_encrypted(filled, tmp_path, encoder):
    filled.backup(tmp_path / "backup", passphrase="correct horse")
    key = (filled.path / "private" / "key").read_bytes().strip()
    assert all(key not in path.read_bytes() for path in (tmp_path / "backup").rglob("*") if path.is_file())
    for wrong in (None, "battery staple"):
        with pytest.raises(ArchiveError, match="passphrase"):
            Archive.restore(tmp_path / "backup", tmp_path / "again", passphrase=wrong)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", "correct horse", encoder) as again:
        assert again.identity.public_id("1", 0, "") == filled.identity.public_id("1", 0, "")


def test_sealing_turns_back_and_notices_damage():
    sealed = seal(b"0123456789abcdef" * 4, "passphrase")
    assert unseal(sealed, "passphrase") == b"0123456789abcdef" * 4
    assert seal(b"0" * 64, "p")[-96:] != seal(b"0" * 64, "p")[-96:]  # a fresh salt each time
    for at in range(0, len(sealed), 7):
        damaged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(ArchiveError):
            unseal(damaged, "passphrase")


def test_a_backup_taken_while_it_is_written_to_is_one_generation(
    archive, pictures, tmp_path, monkeypatch, encoder
):
    monkeypatch.setattr(ingest, "GROUP", 8)
    monkeypatch.setattr(ingest, "BATCH", 8)
    folder = pictures(200)
    started = threading.Event()
    writer = threading.Thread(
        target=lambda: archive.add(folder, pixels="copy", progress=lambda report: started.set())
    )
    writer.start()
    started.wait(20)
    counts = []
    while writer.is_alive() and len(counts) < 4:
        report = archive.backup(tmp_path / f"backup{len(counts)}")
        counts.append(report.images)
    writer.join()
    assert counts and counts[0] < 200
    for number, images in enumerate(counts):
        source, target = tmp_path / f"backup{number}", tmp_path / f"again{number}"
        with Archive.restore(source, target, encoder=encoder) as again:
            assert len(again) == images and images % 8 == 0 and again.verify() == []


def test_images_added_during_a_backup_neither_lack_a_link_nor_leave_one(
    filled, tmp_path, pictures, encoder, monkeypatch
):
    copy, folder = backup._copy_database, pictures(1, seed=9, name="late")

    def added_meanwhile(source, target):
        copy(source, target)
        filled.add(folder)

    monkeypatch.setattr(backup, "_copy_database", added_meanwhile)
    filled.backup(tmp_path / "backup", links=True)
    monkeypatch.undo()
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.verify() == []


def test_backup_and_restore_refuse_a_folder_in_use(filled, tmp_path, pictures):
    with pytest.raises(ArchiveError, match="is not empty"):
        filled.backup(pictures(1))
    filled.backup(tmp_path / "backup")
    with pytest.raises(ArchiveError, match="is not empty"):
        Archive.restore(tmp_path / "backup", filled.path)
    with pytest.raises(ArchiveError, match="is not an archive"):
        Archive.restore(pictures(1), tmp_path / "new")


def test_half_a_backup_is_no_archive(filled, tmp_path, monkeypatch):
    def full(*arguments):
        copied.extend((tmp_path / "backup").rglob("*"))
        raise ArchiveError("the disk is full")

    copied = []
    with monkeypatch.context() as patch:
        patch.setattr(backup, "_copy_pixels", full)
        with pytest.raises(ArchiveError, match="full"):
            filled.backup(tmp_path / "backup")
    assert tmp_path / "backup" / "store.sqlite" in copied
    with pytest.raises(ArchiveError, match="is not an archive"):
        Archive.restore(tmp_path / "backup", tmp_path / "again")
    # Nothing of it is in the way of the next attempt.
    assert filled.backup(tmp_path / "backup").images == 6


def test_a_copy_is_not_put_into_what_it_is_a_copy_of(filled, tmp_path):
    before = sorted(filled.path.rglob("*"))
    for inside in (filled.path / "backup", filled.path / "pixels" / ".." / "backup", filled.path):
        with pytest.raises(ArchiveError, match="give a folder outside of it"):
            filled.backup(inside)
    assert sorted(filled.path.rglob("*")) == before
    filled.backup(tmp_path / "backup")
    with pytest.raises(ArchiveError, match="give a folder outside of it"):
        Archive.restore(tmp_path / "backup", tmp_path / "backup" / "again")
