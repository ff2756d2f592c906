"""Upgrading an archive: rows get digests, the spool moves under private/, and nothing acknowledged is lost."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from medlike import Archive, Query
from medlike.archive.storage import spool as spools
from medlike.archive.storage.digests import LINK_TABLES, TABLES
from medlike.errors import ArchiveError, ArchiveLocked

CRASH = Path(__file__).parents[1] / "crash"


def as_format_1(path):
    """Make of a closed archive what an earlier medlike would have left."""
    file = path / "archive.json"
    facts = json.loads(file.read_text())
    facts.pop("id")
    file.write_text(json.dumps(facts | {"format": 1}))
    (path / "private" / "spool").rename(path / "spool")
    for name, tables in (("store.sqlite", TABLES.keys() - {"fits"}), ("private/links.sqlite", LINK_TABLES)):
        with closing(sqlite3.connect(path / name)) as database:
            for table in tables:
                database.execute(f"ALTER TABLE {table} DROP COLUMN digest")
    with closing(sqlite3.connect(path / "store.sqlite")) as database:
        database.execute("ALTER TABLE encodings DROP COLUMN features")
        database.execute("DROP TABLE fits")


@pytest.fixture
def old(archive, tmp_path, pictures, encoder):
    """An archive of format 1 with three images, a text each, and a received file that waits; its ticket."""
    pictures(3)
    lines = [f"pictures/000{at}.png,number{at}" for at in range(3)]
    (tmp_path / "m.csv").write_text("\n".join(["path,text", *lines]) + "\n")
    archive.add(tmp_path / "m.csv")
    ticket = archive.receive((tmp_path / "pictures" / "0001.png").read_bytes(), "late.png")
    archive.close()
    as_format_1(archive.path)
    with Archive.open(archive.path, encoder=encoder) as opened:
        yield opened, ticket


def format_of(archive):
    return json.loads((archive.path / "archive.json").read_text())["format"]


def test_an_upgrade_changes_no_answer_and_leaves_no_row_unchecked(old):
    archive, ticket = old
    id = archive.ids()[0]
    before, generation = archive.search(Query(id=id)), archive.info()["generation"]
    rows = {"images": 3, "encodings": 3, "texts": 3, "links": 3, "files": 3, "file_ids": 3}
    assert archive.unchecked() == rows and archive.status(ticket).state == "received"
    steps = []
    report = archive.upgrade(lambda so_far: steps.append(so_far.done))
    assert (report.former, report.format, report.sealed, report.received) == (1, 3, rows, 1)
    assert steps == sorted(steps) and steps[-1] == 18
    assert format_of(archive) == 3 and not (archive.path / "spool").exists()
    assert archive.unchecked() == {} and archive.verify() == []
    after = archive.search(Query(id=id))
    assert [hit.as_dict() for hit in after] == [hit.as_dict() for hit in before]
    assert archive.info()["generation"] == generation and archive.repeat(before.receipt).receipt["answer"]
    assert archive.status(ticket).state == "received" and archive.drain().skipped == []
    assert archive.status(ticket).state == "indexed" and archive.verify() == []
    again = archive.upgrade()
    assert not again.changed and (again.former, again.sealed) == (3, {})


def test_an_earlier_format_stays_what_it_is_until_it_is_upgraded(old, pictures):
    archive, _ = old
    archive.add(pictures(5))
    assert format_of(archive) == 1 and (archive.path / "spool").is_dir()
    # An earlier medlike writes its links without naming columns.
    assert not archive._links.has_digests and archive.verify() == []
    archive._bundles.current().folder.write()
    assert format_of(archive) == 1 and "id" not in json.loads((archive.path / "archive.json").read_text())


def test_a_process_that_has_the_archive_open_follows_the_upgrade(old, encoder, pictures):
    archive, _ = old
    with Archive.open(archive.path, encoder=encoder) as other:
        archive.upgrade()
        ticket = other.receive((pictures(5) / "0004.png").read_bytes(), "later.png")
        assert archive.status(ticket).state == "received"
        other.add(pictures(4))
        assert format_of(other) == 3 and other.unchecked() == {} and other.verify() == []


def test_a_file_received_while_the_spool_moves_is_kept(old, pictures, monkeypatch):
    archive, _ = old
    data = (pictures(5) / "0004.png").read_bytes()
    original = spools.Spool._next_number

    def meanwhile(self):
        number = original(self)
        if (archive.path / "spool").exists():
            monkeypatch.setattr(spools.Spool, "_next_number", original)
            spools.move_spool(archive.path / "spool", archive.path / "private" / "spool")
        return number

    monkeypatch.setattr(spools.Spool, "_next_number", meanwhile)
    ticket = archive.receive(data, "late.png")
    assert archive.status(ticket).state == "received" and archive.info()["received"] == 2
    assert archive.upgrade().received == 2 and archive.drain().added == 1 and archive.verify() == []


def test_a_receiver_of_an_earlier_medlike_gets_an_error_and_no_ticket(old, pictures):
    archive, _ = old
    place = archive.path / "spool"
    archive.upgrade()
    with pytest.raises(ArchiveError, match="spool"):
        spools.Spool(lambda: place).put((pictures(1) / "0000.png").read_bytes())
    assert not place.exists()


def test_received_files_in_both_places_are_put_together(old, pictures):
    archive, ticket = old
    inside, outside = archive.path / "private" / "spool", archive.path / "spool"
    spools.move_spool(outside, inside)
    assert archive.status(ticket).state == "received"  # as after an upgrade that was interrupted
    (inside / "refused").mkdir()
    (inside / "refused" / "a").write_bytes(b"a")
    outside.mkdir(0o700)
    late = archive.receive((pictures(5) / "0004.png").read_bytes(), "late.png")
    assert list(outside.glob("*.json"))
    assert archive.upgrade().received == 2 and not outside.exists() and (inside / "refused" / "a").exists()
    assert {archive.status(ticket).state, archive.status(late).state} == {"received"}


def test_an_upgrade_waits_for_the_writer(old, encoder):
    archive, _ = old
    with Archive.open(archive.path, encoder=encoder) as other, other._writer.writing(), pytest.raises(ArchiveLocked):
        archive.upgrade()
    assert format_of(archive) == 1


def test_a_backup_of_format_1_is_restored_and_upgraded(old, tmp_path, encoder):
    archive, ticket = old
    archive.backup(tmp_path / "backup", links=True, with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert format_of(again) == 1 and again.status(ticket).state == "received"
        assert again.upgrade().received == 1 and again.unchecked() == {} and again.verify() == []


@pytest.mark.parametrize("passphrase", [None, "open sesame"])
def test_a_backup_beside_an_upgrade_is_of_one_format(old, tmp_path, encoder, monkeypatch, passphrase):
    archive, ticket = old
    from medlike.archive.storage import backup

    original, tries = backup._copy_pixels, []

    def meanwhile(*given):
        if not tries:
            tries.append(archive.upgrade())
        return original(*given)

    monkeypatch.setattr(backup, "_copy_pixels", meanwhile)
    archive.backup(tmp_path / "backup", links=True, passphrase=passphrase, with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", passphrase, encoder=encoder) as again:
        assert format_of(again) == 3 and again.unchecked() == {} and again.verify() == []
        assert again.status(ticket).state == "received" and not (again.path / "spool").exists()


def test_missing_links_are_called_missing(archive, pictures, encoder, tmp_path):
    archive.add(pictures(2))
    archive.close()
    for path in (archive.path / "private").glob("links.sqlite*"):
        path.unlink()
    with Archive.open(archive.path, encoder=encoder) as again:
        (problem,) = (problem for problem in again.verify() if problem.part == "private")
        assert "links.sqlite is missing: put it back from a backup" in str(problem)
        with pytest.raises(ArchiveError, match=r"links\.sqlite is missing: put it back from a backup"):
            again.add(pictures(3))
        # The way out that the message names.
        again.backup(tmp_path / "backup", with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as restored:
        assert restored.add(pictures(3)).added == 1 and restored.verify() == []


@pytest.mark.parametrize(
    "change", ["path = replace(path, '0000', '0009')", "identifiers = '{\"a\": 1}'", "frame = 7", "digest = x'00'"]
)
def test_a_changed_link_is_an_error_and_never_a_source(archive, pictures, change):
    archive.add(pictures(2))
    id = archive.ids()[0]
    assert archive.search(Query(id=archive.ids()[1])).hits[0].source["path"].endswith("0000.png")
    archive._links.connection.execute(f"UPDATE links SET {change} WHERE id = '{id}'")
    for asked in (lambda: archive.source(id), lambda: archive.search(Query(id=archive.ids()[1])).hits[0].source):
        with pytest.raises(ArchiveError, match=f"row {id} of links in .* is damaged: restore"):
            asked()
    assert [str(problem) for problem in archive.verify()] == [
        f"private: row {id} of links is damaged: restore the archive from a backup"
    ]


def test_a_flipped_bit_in_a_links_path_is_noticed(archive, pictures, encoder):
    archive.add(pictures(2))
    ids = archive.ids()
    archive.close()
    file = archive.path / "private" / "links.sqlite"
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes())
    path = str(archive.path.parent / "pictures" / "0000.png").encode()
    at = data.find(ids[0].encode() + path)  # id and path follow each other in a row of `links`
    assert at >= 0
    data[at + len(ids[0]) + len(path) - 6] ^= 1
    file.write_bytes(data)
    with Archive.open(archive.path, encoder=encoder) as again:
        with pytest.raises(ArchiveError, match=f"row {ids[0]} of links in .* is damaged"):
            _ = again.search(Query(id=ids[1])).hits[0].source
        assert any("of links is damaged" in str(problem) for problem in again.verify())


@pytest.mark.parametrize("table", ["files", "file_ids"])
def test_a_changed_row_of_the_files_seen_is_an_error(archive, pictures, table):
    folder = pictures(1)
    archive.add(folder)
    archive._links.connection.execute(f"UPDATE {table} SET digest = x'00'")
    with pytest.raises(ArchiveError, match=f"row .* of {table} in .* is damaged"):
        archive._links.seen(str(folder / "0000.png"))
    assert any(f"of {table} is damaged" in str(problem) for problem in archive.verify())


@pytest.mark.slow
def test_killed_upgrades_lose_nothing_and_can_be_run_again():
    run = subprocess.run([sys.executable, CRASH / "upgrades.py", "--kills", "12"], capture_output=True, text=True)
    assert run.returncode == 0 and "kills" in run.stdout, run.stdout + run.stderr
