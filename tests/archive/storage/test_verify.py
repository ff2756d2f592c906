"""Damage that verify must find, and full disks."""

import sqlite3
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from medlike import Archive, Result
from medlike.archive.storage.verify import Problem, checked
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked


@pytest.fixture
def filled(archive, pictures, scan):
    archive.add(pictures(3))
    archive.add(scan("a.dcm"), pixels="copy")
    archive.receive(scan("b.dcm", seed=1).read_bytes(), "b.dcm")
    archive.reindex()
    archive.receive(scan("c.dcm", seed=2).read_bytes(), "c.dcm")
    assert archive.verify() == []
    return archive


def first(folder, pattern):
    return sorted(folder.rglob(pattern))[0]


def sql(archive, statement):
    archive._store.connection.execute(statement)


DAMAGE = {
    "a preview is missing": ("previews", lambda a: first(a._folder.previews, "*.jpg").unlink()),
    "a preview is damaged": ("previews", lambda a: first(a._folder.previews, "*.jpg").write_bytes(b"x")),
    "pixels are missing": ("pixels", lambda a: first(a._folder.pixels, "*.pixels").unlink()),
    "pixels are damaged": ("pixels", lambda a: first(a._folder.pixels, "*.pixels").write_bytes(b"x")),
    "other pixels": (
        "pixels",
        lambda a: first(a._folder.pixels, "*.pixels").write_bytes(
            first(a._folder.pixels, "*.pixels").read_bytes()[:-40] + b"\0" * 40
        ),
    ),
    "a file of no image": ("pixels", lambda a: (a._folder.pixels / "stray.pixels").write_bytes(b"x")),
    "a row without encoding": ("store", lambda a: sql(a, "DELETE FROM encodings WHERE row = 1")),
    "a code of another width": ("store", lambda a: sql(a, "UPDATE encodings SET code = x'00' WHERE row = 1")),
    "a changed code": ("index", lambda a: sql(a, "UPDATE encodings SET code = zeroblob(8) WHERE row = 2")),
    "impossible generations": ("store", lambda a: sql(a, "UPDATE images SET added = 99 WHERE row = 1")),
    "a lost generation": ("store", lambda a: sql(a, "DELETE FROM generations WHERE generation = 1")),
    "a lost row": ("index", lambda a: sql(a, "DELETE FROM images WHERE row = 3")),
    "no link": ("private", lambda a: a._links.connection.execute("DELETE FROM links")),
    "a link of nothing": (
        "private", lambda a: a._links.connection.execute("INSERT INTO links VALUES ('x', '', 0, '{}', NULL)"),
    ),
    "a damaged sidecar": ("spool", lambda a: first(a._folder.spool, "*.json").write_text("{")),
    "another key": ("private", lambda a: (a._folder.private / "key").write_text("00" * 32)),
    "a damaged received file": ("spool", lambda a: first(a._folder.spool, "*.dcm").write_bytes(b"x")),
    "a lost received file": ("spool", lambda a: first(a._folder.spool, "*.dcm").unlink()),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_verify_finds(filled, damage, encoder):
    part, harm = DAMAGE[damage]
    harm(filled)
    filled.close()
    with Archive.open(filled.path, encoder=encoder) as again:
        assert part in {problem.part for problem in again.verify()}


@pytest.mark.parametrize("table", ["images", "encodings", "texts", "words_data"])
def test_verify_answers_whatever_a_table_holds(filled, encoder, table):
    sql(filled, "INSERT INTO texts(number, row, kind, text) VALUES (64, 1, 'caption', 'clear lungs')")
    columns = [name for _, name, *_ in filled._store.query(f"PRAGMA table_info({table})")]
    for name in columns[1:]:
        with suppress(sqlite3.IntegrityError):
            sql(filled, f"UPDATE {table} SET \"{name}\" = x'ff00'")
    filled.close()
    with Archive.open(filled.path, encoder=encoder) as again:
        assert "store" in {problem.part for problem in again.verify()}


def test_damage_that_ends_a_check_is_a_problem_but_a_lock_is_not():
    def ends(error):
        yield Problem("pixels", "the first")
        raise error

    assert [str(problem) for problem in checked("store", lambda: ends(ValueError("x")))][1:] == [
        "store: the check ended in ValueError (x): restore the archive from a backup"
    ]
    with pytest.raises(ArchiveLocked):
        list(checked("store", lambda: ends(ArchiveLocked("y"))))


def test_damage_that_ends_every_check_is_listed_once(filled, encoder):
    filled.close()
    (filled.path / "store.sqlite").write_bytes(b"no database")
    with Archive.open(filled.path, encoder=encoder) as again:
        details = [problem.detail for problem in again.verify()]
    assert len(details) == len(set(details)) and any("store.sqlite is damaged" in detail for detail in details)


def test_a_damaged_preview_or_copy_is_never_shown(filled):
    harmed = {"*.jpg": 0, "*.pixels": 0}
    for pattern in harmed:
        for path in filled._folder.pixels.rglob(pattern):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))
            harmed[pattern] += 1
    assert all(harmed.values())
    for id in filled.ids():
        with pytest.raises(ArchiveError, match=r"damaged.*backup"):
            filled.picture(id)


def test_a_crash_costs_no_index(filled, encoder):
    """What an interrupted build left goes; what is whole stays, so that a large archive is not built anew."""
    folder = filled._folder.index / filled._folder.bundle.digest[:16]
    before = {path.name for path in folder.iterdir()}
    (folder / "half-built").mkdir()
    (folder / "half-built" / "codes.bin").write_bytes(b"x")
    (filled.path / "writer.lock").write_text("process 1 on nowhere\n")
    filled.close()
    with Archive.open(filled.path, encoder=encoder) as again:
        again.remove([])
        assert {path.name for path in folder.iterdir()} == before and again.verify() == []


def test_verify_finds_a_word_index_that_lies(archive, tmp_path, pictures):
    pictures(1)
    (tmp_path / "m.csv").write_text("path,text\npictures/0000.png,clear lungs\n")
    archive.add(tmp_path / "m.csv")
    assert archive.verify() == []
    archive._store.connection.execute("DROP TRIGGER text_deleted")
    archive._store.connection.execute("DELETE FROM texts")
    assert any("word index" in str(problem) for problem in archive.verify())


def test_verify_beside_a_writer_reports_no_difference(archive):
    archive._store.connection.execute("PRAGMA busy_timeout=100")
    writer = sqlite3.connect(archive._folder.store, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(ArchiveLocked, match="try again later"):
        archive.verify()
    writer.close()
    assert archive.verify() == []


FULL = """
import sys
from medlike import Archive, Result
from medlike.archive.intake import ingest
from medlike.errors import ArchiveFull, ArchiveError
ingest.GROUP = 8
archive = Archive.open(sys.argv[1])
try:
    report = archive.add(sys.argv[2], pixels="copy")
    print("fitted", report.added)
except ArchiveFull as error:
    print("full", len(archive), error)
"""


@pytest.fixture
def noise(tmp_path):
    """Pictures that do not compress: 60 of them, 16 KiB each."""
    folder = tmp_path / "noise"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(random.integers(0, 256, (128, 128)).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1,000 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1000k", "medlike-test", place])
    if mounted.returncode:
        pytest.fail("a small file system cannot be mounted: run the tests as root, or leave out -m disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_committed(small_disk, noise, tiny_bundle, encoder):
    Archive.create(small_disk / "a", tiny_bundle).close()
    run = subprocess.run(
        [sys.executable, "-c", FULL, small_disk / "a", noise],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    said, kept, *message = run.stdout.split()
    assert said == "full" and 0 < int(kept) < 60, run.stdout
    assert f"{kept} images of this run are safe" in " ".join(message)
    with Archive.open(small_disk / "a", encoder=encoder) as archive:
        assert len(archive) == int(kept) and archive.verify() == []
        with pytest.raises(ArchiveFull):
            archive.add(noise, pixels="copy")
        # With room again, the run goes on where it stopped.
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
        report = archive.add(noise, pixels="copy")
        assert report.added + report.unchanged == 60 and report.unchanged >= int(kept)
        assert archive.verify() == []


@pytest.mark.slow
def test_a_backup_to_a_full_disk_blames_that_disk_and_can_be_tried_again(archive, noise, small_disk):
    archive.add(noise)
    archive.add(noise, pixels="copy")
    for room in (90_000, 900_000):  # for a part of the store; for the store and a part of the pixels
        (small_disk / "ballast").write_bytes(bytes(1_000_000 - room))
        with pytest.raises(ArchiveFull, match=f"the disk that holds {small_disk}/backup.* is full"):
            archive.backup(small_disk / "backup")
        assert not (small_disk / "backup").exists()
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    assert archive.backup(small_disk / "backup").images == 60


@pytest.mark.slow
def test_a_sheet_on_a_full_disk_is_not_begun(small_disk):
    with suppress(OSError):
        (small_disk / "ballast").write_bytes(bytes(2_000_000))
    for draw, name in ((Result([]).sheet, "sheet.png"), (Result([]).page, "page.html")):
        with pytest.raises(ArchiveFull, match="free space"):
            draw(small_disk / name)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.slow
def test_a_spool_on_a_full_disk_acknowledges_nothing(small_disk, noise, tiny_bundle, encoder):
    tickets = []
    with Archive.create(small_disk / "a", tiny_bundle, encoder=encoder) as archive:
        with pytest.raises(ArchiveFull, match="free space"):
            for path in sorted(noise.iterdir()):
                tickets.append(archive.receive(path.read_bytes(), path.name))
        assert 0 < len(tickets) < 60 and len(list(archive._spool.entries())) == len(tickets)
        with pytest.raises(ArchiveFull, match="free space"):
            archive.drain()
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
        assert archive.drain().added == len(tickets) and archive.verify() == []
