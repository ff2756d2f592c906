"""Upgrading an archive: rows get digests, the spool moves under private/, and nothing acknowledged is lost."""

import json
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from medlike import Archive, Query
from medlike.archive.storage import spool as spools
from medlike.archive.storage import upgrade as upgrades
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
    before, generation = archive.search(Query(id=id), codes="trained"), archive.info()["generation"]
    rows = {"images": 3, "encodings": 3, "texts": 3, "links": 3, "files": 3, "file_ids": 3}
    assert archive.unchecked() == rows and archive.status(ticket).state == "received"
    steps = []
    report = archive.upgrade(lambda so_far: steps.append(so_far.done))
    assert (report.former, report.format, report.sealed, report.received) == (1, 3, rows, 1)
    assert steps == sorted(steps) and steps[-1] == 18
    assert format_of(archive) == 3 and not (archive.path / "spool").exists()
    assert archive.unchecked() == {} and archive.verify() == []
    after = archive.search(Query(id=id), codes="trained")
    assert [hit.as_dict() for hit in after] == [hit.as_dict() for hit in before]
    assert report.fit.images == 3 and archive.info()["fit"]["digest"] == report.fit.digest
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
    assert not archive._links.has_digests("links") and archive.verify() == []
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


def test_an_upgrade_cut_short_shuts_an_earlier_medlike_out_before_its_links_change(old, encoder, pictures, monkeypatch):
    archive, ticket = old

    class CutShort(Exception):
        pass

    def cut(*_):
        raise CutShort

    with monkeypatch.context() as patched, pytest.raises(CutShort):
        patched.setattr(upgrades, "add_columns", cut)
        archive.upgrade()
    # It is of the newest format, and its links are those that an earlier medlike made.
    assert format_of(archive) == 3 and not archive._links.has_digests("links")
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.verify() == [] and again.status(ticket).state == "received"
        assert again.unchecked() == {"links": 3, "files": 3, "file_ids": 3}
        again.add(pictures(4))
        assert again.upgrade().changed and again.unchecked() == {} and again.verify() == []
        assert not again.upgrade().changed


def test_an_upgrade_cut_short_before_archive_json_can_still_be_written_by_an_earlier_medlike(old, monkeypatch):
    archive, _ = old
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(type(archive._bundles), "use", lambda *_: 1 / 0)
        archive.upgrade()
    assert format_of(archive) == 1
    # As an earlier medlike does it, without naming columns.
    archive._links.connection.execute("INSERT INTO links VALUES ('0', 'a.png', 0, '{}')")
    archive._links.connection.execute("DELETE FROM links WHERE id = '0'")
    assert archive.upgrade().changed and archive.unchecked() == {} and archive.verify() == []


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


def test_codes_of_texts_get_their_digests_by_an_upgrade_and_never_before(worded, encoder, captioned):
    worded.close()
    as_format_1(worded.path)
    facts = json.loads((worded.path / "archive.json").read_text())
    (worded.path / "archive.json").write_text(json.dumps(facts | {"format": 2}))
    with Archive.open(worded.path, encoder=encoder) as archive:
        archive.add(captioned(12))
        # As an earlier medlike writes it, without naming columns.
        archive._store.connection.execute(
            "INSERT OR REPLACE INTO text_encodings SELECT number, bundle, code, embedding FROM text_encodings"
        )
        coded = archive._store.number("SELECT count(*) FROM text_encodings")
        assert archive.unchecked()["text_encodings"] == coded
        before = archive.search(Query(text="effusion"), k=5)
        assert archive.upgrade().sealed["text_encodings"] == coded and archive.unchecked() == {}
        after = archive.search(Query(text="effusion"), k=5)
        assert [hit.as_dict() for hit in after] == [hit.as_dict() for hit in before] and archive.verify() == []
        archive.add(captioned(14))
        assert archive.unchecked() == {} and archive.verify() == []


def test_a_link_whose_id_changed_is_missed_and_never_silently(archive, pictures, tmp_path, encoder):
    archive.add(pictures(4))
    ids = archive.ids()
    assert archive.search(Query(id=ids[1])).warnings == ()
    archive._links.connection.execute(
        f"UPDATE links SET id = '{ids[0][:-1]}{'1' if ids[0][-1] == '0' else '0'}' WHERE id = '{ids[0]}'"
    )
    result = archive.search(Query(id=ids[1]))
    assert result.warnings == ("1 image here has no link to where it came from: run `medlike verify`",)
    assert [hit.id for hit in result if hit.source is None] == [ids[0]]
    # A single image and a page say it too; of the others there is nothing to say.
    with pytest.warns(UserWarning, match=r"^1 image here has no link to where it came from: run `medlike verify`$"):
        assert archive.source(ids[0]) is None
    with warnings.catch_warnings(action="error"):
        assert archive.source(ids[1]) and archive.source("0" * 32) is None
    listing = archive.browse()
    assert listing.warnings == result.warnings and archive.browse(offset=1).warnings == ()
    assert [image.id for image in listing.images if image.source is None] == [ids[0]]
    archive._links.connection.execute("DELETE FROM links WHERE id = ?", (ids[2],))
    assert archive.search(Query(id=ids[1])).warnings[0].startswith("2 images here have no link")
    assert any("of links is damaged" in str(problem) for problem in archive.verify())
    # One that was restored without its links has nothing to miss.
    archive.backup(tmp_path / "backup", with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "again", encoder=encoder) as again:
        assert again.search(Query(id=ids[1])).warnings == () == again.browse().warnings
        with warnings.catch_warnings(action="error"):
            assert again.source(ids[1]) is None
