"""Backups are taken while the archive is in use, and become archives again."""

import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from medlike import Archive, Query
from medlike.archive.intake import ingest
from medlike.archive.intake.writer import ArchiveWriter
from medlike.archive.storage import backup, encryption
from medlike.archive.storage.sealed_key import unseal
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked, InputError


@pytest.fixture
def filled(archive, pictures, scan):
    archive.add(pictures(4))
    archive.add([scan("a.dcm", SOPInstanceUID="1.2.3"), scan("b.dcm", seed=1)], pixels="copy")
    archive.receive(scan("c.dcm", seed=2).read_bytes(), "c.dcm")
    archive.drain()
    archive.remove([archive._store.images([1])[1].id])
    return archive


def test_a_restored_archive_answers_the_same(filled, tmp_path, pictures, encoder, scan):
    query = Query(image=pictures(1) / "0000.png")
    expected = filled.search(query, k=9)
    report = filled.backup(tmp_path / "backup", with_id_key=True)
    assert (report.images, report.generation, report.links) == (6, filled._store.generation(), False)
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
    filled.backup(tmp_path / "whole", links=True, with_id_key=True)
    with Archive.restore(tmp_path / "whole", tmp_path / "again", encoder=encoder) as again:
        id = again._bundles.current().identity.public_id("1.2.3", 0, "")
        assert again.source(id) == filled.source(id) and again.source(id)["sop_uid"] == "1.2.3"
        assert again.verify() == []


def test_received_files_are_saved_too(archive, scan, tmp_path, encoder):
    archive.receive(scan("c.dcm", SOPInstanceUID="1.2.9").read_bytes(), "c.dcm")
    archive.backup(tmp_path / "backup", with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.info()["received"] == 1 and again.drain().added == 1


def test_under_a_passphrase_nothing_can_be_read(filled, tmp_path, encoder, pictures, scan):
    filled.receive(scan("d.dcm", seed=3).read_bytes(), "d.dcm")
    filled.backup(tmp_path / "backup", links=True, passphrase="correct horse")
    (file,) = (tmp_path / "backup").iterdir()
    content = file.read_bytes()
    key = (filled.path / "private" / "key").read_bytes().strip()
    # Each is too long to stand in random bytes by chance.
    plains = (key, b"SQLite format 3", b"archive.json", b"Doe^Jane", b".pixels\0", b"ustar\0", str(tmp_path).encode())
    for plain in plains:
        assert plain not in content
    for wrong in (None, "", "battery staple"):
        with pytest.raises(ArchiveError, match="passphrase"):
            Archive.restore(tmp_path / "backup", tmp_path / "again", passphrase=wrong)
    query = Query(image=pictures(1) / "0000.png")
    with Archive.restore(tmp_path / "backup", tmp_path / "again", "correct horse", encoder) as again:
        ids = [each._bundles.current().identity.public_id("1", 0, "") for each in (again, filled)]
        assert ids[0] == ids[1]
        assert again.verify() == [] and again.info()["received"] == 1
        id = again._bundles.current().identity.public_id("1.2.3", 0, "")
        assert again.source(id) == filled.source(id)
        found, expected = again.search(query, k=9).hits, filled.search(query, k=9).hits
        assert [(hit.id, hit.distance) for hit in found] == [(hit.id, hit.distance) for hit in expected]
    with pytest.raises(InputError, match="empty"):
        filled.backup(tmp_path / "empty", passphrase="")


EVIL = ["../evil", "/tmp/evil", "spool/../../evil", "private/other", "pixels/ab/x.pixels", "index/x", "writer.lock"]


@pytest.mark.parametrize("name", [*EVIL, "a link", "a pipe"])
def test_an_encrypted_backup_holds_nothing_but_parts_of_an_archive(tmp_path, name):
    info = tarfile.TarInfo("store.sqlite" if name.startswith("a ") else name)
    info.type = {"a link": tarfile.SYMTYPE, "a pipe": tarfile.FIFOTYPE}.get(name, tarfile.REGTYPE)
    info.linkname = "/etc/passwd"
    (tmp_path / "backup").mkdir()
    with (
        encryption.encrypted(tmp_path / "backup" / backup.CONTAINER, "p") as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        tar.addfile(info, io.BytesIO())
    with pytest.raises(ArchiveError, match="no part of an archive"):
        Archive.restore(tmp_path / "backup", tmp_path / "again", "p")
    assert not (tmp_path / "again").exists() and not (tmp_path / "evil").exists()


OLD_KEY = b"00112233445566778899aabbccddeeff" * 2 + b"\n"
OLD_SEALED = bytes.fromhex(
    "6d65646c696b65207365616c6564206b657920310a9dc2a106c1a8a8fed34d69884a4d24f6f7beaa34ad642d048fad938a0bb367b2c3fff434"
    "ccd680dca517c550123514e9e6399c7b660e15e1112330cdaef11f16d76b2ffd9db580ebac3f41aa2ab35514db83ae14b0a710415fba2606b9"
    "c948498fdefb2cabd963fb75c7b75c915bbbe0a9"
)


def test_an_id_key_that_an_earlier_medlike_encrypted_is_still_read(filled, tmp_path, encoder):
    assert unseal(OLD_SEALED, "correct horse") == OLD_KEY
    for at in range(0, len(OLD_SEALED), 7):
        with pytest.raises(ArchiveError):
            unseal(OLD_SEALED[:at] + bytes([OLD_SEALED[at] ^ 1]) + OLD_SEALED[at + 1 :], "correct horse")
    filled.backup(tmp_path / "backup")
    (tmp_path / "backup" / "private").mkdir(exist_ok=True)
    (tmp_path / "backup" / "private" / "key.sealed").write_bytes(OLD_SEALED)
    with pytest.raises(ArchiveError, match="give the passphrase"):
        Archive.restore(tmp_path / "backup", tmp_path / "again")
    # It is the key of another archive.
    with pytest.raises(ArchiveError, match="is not this archive's"):
        Archive.restore(tmp_path / "backup", tmp_path / "again", "correct horse")


def test_without_the_key_an_archive_is_searched_and_takes_nothing_new(filled, tmp_path, encoder, pictures, scan):
    filled.receive(scan("d.dcm", seed=3).read_bytes(), "d.dcm")
    filled.backup(tmp_path / "backup")
    assert not list((tmp_path / "backup").rglob("key*"))
    query = Query(image=pictures(1) / "0000.png")
    expected = [(hit.id, hit.distance) for hit in filled.search(query, k=9).hits]
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.verify() == []
        assert [(hit.id, hit.distance) for hit in again.search(query, k=9).hits] == expected
        assert again.remove([expected[0][0]]).removed == 1 and again.info()["received"] == 1
        with pytest.raises(ArchiveError, match="put the original archive's private/key there"):
            again.add(scan("new.dcm", seed=7))
        shutil.copy(filled.path / "private" / "key", tmp_path / "again" / "private" / "key")
        assert again.add(scan("new.dcm", seed=7)).added == 1
        ids = [each._bundles.current().identity.public_id("1", 0, "") for each in (again, filled)]
        assert ids[0] == ids[1]
        assert again.verify() == []
        (tmp_path / "again" / "private" / "key").write_text("00" * 32)
        assert any("is not this archive's" in str(problem) for problem in again.verify())


def test_the_key_can_be_given_when_restoring_and_is_checked(filled, tmp_path, encoder, scan):
    filled.receive(scan("d.dcm", seed=3).read_bytes(), "d.dcm")
    filled.backup(tmp_path / "backup")
    other = tmp_path / "other"
    other.write_text("00" * 32)
    with pytest.raises(ArchiveError, match="is not this archive's"):
        Archive.restore(tmp_path / "backup", tmp_path / "again", key=other)
    assert not (tmp_path / "again").exists()
    key = filled.path / "private" / "key"
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder, key=key) as again:
        assert again.drain().added == 1 and again.verify() == []


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "key link", "store link", "spool link"])
def test_a_backup_with_links_or_pipes_is_refused(filled, tmp_path, kind):
    filled.backup(tmp_path / "backup", with_id_key=True)
    place, secret = tmp_path / "backup", tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    file = sorted((place / "pixels").rglob("*.pixels"))[0]
    if kind == "link":
        file.unlink()
        file.symlink_to(secret / "file")
    elif kind == "folder link":
        (place / "pixels" / "zz").symlink_to(secret)
    elif kind == "pipe":
        file.unlink()
        os.mkfifo(file)
    else:
        (place / "spool").mkdir(exist_ok=True)
        part = place / {"key link": "private/key", "store link": "store.sqlite", "spool link": "spool"}[kind]
        shutil.move(part, secret / "moved")
        part.symlink_to(secret / "moved")
    with pytest.raises(ArchiveError, match="which an archive never holds"):
        Archive.restore(place, tmp_path / "again")
    assert not (tmp_path / "again").exists()


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
    with pytest.raises(ArchiveError, match="is not a backup"):
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
    with pytest.raises(ArchiveError, match="is not a backup"):
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


@pytest.mark.parametrize("ending", ["pixels", "jpg"])
@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_a_backup_refuses_damaged_pixels_and_says_which(filled, tmp_path, ending, passphrase):
    doomed = sorted((filled.path / "pixels").rglob(f"*.{ending}"))[0]
    content = bytearray(doomed.read_bytes())
    content[len(content) // 2] ^= 4
    doomed.write_bytes(content)
    with pytest.raises(ArchiveError, match=f"{doomed.name} is damaged: `medlike verify`"):
        filled.backup(tmp_path / "backup", passphrase=passphrase)
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("name", ["store.sqlite", "private/links.sqlite"])
def test_a_backup_refuses_a_damaged_database(filled, tmp_path, name):
    """A page of an index with its rows cut off: it reads, and answers wrong."""
    filled.close()
    with sqlite3.connect(filled.path / name) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = database.execute("PRAGMA page_size").fetchone()[0]
        sql = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND name IN ('images_id', 'link_paths') OR "
        page = database.execute(sql + "type = 'index' ORDER BY rootpage LIMIT 1").fetchone()[0]
    database.close()
    with (filled.path / name).open("r+b") as file:
        file.seek((page - 1) * size + 3)
        file.write(bytes([0, 1]))
    with pytest.raises(ArchiveError, match=f"{Path(name).name} is damaged"):
        filled.backup(tmp_path / "backup", links=True)
    assert not (tmp_path / "backup").exists()


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import workload
from medlike import Archive, files
kind, number, source, target = sys.argv[2], int(sys.argv[3]), *sys.argv[4:]
calls = [0]

def counted(work):
    def run(*given, **named):
        calls[0] += 1
        if calls[0] > number:
            os._exit(9)
        return work(*given, **named)
    return run

secret = {"passphrase": "open sesame"} if "sealed" in kind else {}
archive = None if "restore" in kind else Archive.open(source, encoder=workload.StandIn())
files.sync_files, files.make_folder = counted(files.sync_files), counted(files.make_folder)
if archive is None:
    Archive.restore(source, target, encoder=workload.StandIn(), **secret)
else:
    archive.backup(target, **secret)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["backup", "backup sealed", "restore", "restore sealed"])
def test_a_killed_backup_or_restore_is_never_taken_for_a_whole_one_and_can_be_run_again(
    filled, tmp_path, encoder, kind
):
    sealed, restoring = "sealed" in kind, "restore" in kind
    secret = {"passphrase": "open sesame"} if sealed else {}
    if restoring:
        filled.backup(tmp_path / "backup", **secret)
    source = tmp_path / "backup" if restoring else filled.path
    killed = 0
    for number in (3, 6, 10, 16):
        target = tmp_path / f"target{number}"
        crash = Path(__file__).parents[1] / "crash"
        command = [sys.executable, "-c", KILLED, crash, kind, str(number), source, target]
        if subprocess.run(command, capture_output=True).returncode != 9 or (target / "archive.json").exists():
            continue
        killed += 1
        if restoring:
            with pytest.raises(ArchiveError, match="is not an archive"):
                Archive.open(target)
            again = Archive.restore(source, target, encoder=encoder, **secret)
        else:
            with pytest.raises(ArchiveError, match="interrupted before its end"):
                Archive.restore(target, tmp_path / "half", encoder=encoder, **secret)
            filled.backup(target, **secret)
            again = Archive.restore(target, tmp_path / f"again{number}", encoder=encoder, **secret)
        with again:
            assert len(again) == len(filled) and again.verify() == []
        assert not [path for path in target.rglob("*") if "unfinished" in path.name or ".partial" in path.name]
    assert killed


def test_two_backups_into_one_folder_do_not_mix(filled, tmp_path, monkeypatch):
    original, tries = backup._copy_pixels, []

    def meanwhile(*given):
        if not tries:
            tries.append(True)
            with pytest.raises(ArchiveLocked, match="another process"):
                filled.backup(tmp_path / "backup")
        return original(*given)

    monkeypatch.setattr(backup, "_copy_pixels", meanwhile)
    assert filled.backup(tmp_path / "backup").images == 6 and tries
    with pytest.raises(ArchiveError, match="not empty"):
        filled.backup(tmp_path / "backup")


def test_a_restore_that_cannot_be_finished_leaves_a_folder_for_the_next(filled, tmp_path, encoder, monkeypatch):
    filled.backup(tmp_path / "backup")
    with monkeypatch.context() as patch:
        patch.setattr(ArchiveWriter, "finish_restore", lambda self: (_ for _ in ()).throw(ArchiveFull("full")))
        with pytest.raises(ArchiveFull):
            Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder)
    Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder).close()
