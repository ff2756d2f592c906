"""Removing ends a life at a generation; erasing leaves no byte, and says so to receipts."""

import csv
import sqlite3

import pytest

from medlike import Archive, Query
from medlike.archive.storage import removal
from medlike.errors import ArchiveLocked


def traces(folder, needles):
    """Which needles are in which files below a folder."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes() + str(path.relative_to(folder)).encode()
            found += [(path.name, name) for name, needle in needles.items() if needle in content]
    return found


def test_removed_images_are_seen_by_searches_of_the_past_only(archive, pictures):
    folder = pictures(6)
    archive.add(folder)
    query = Query(image=folder / "0000.png")
    before = archive.search(query, k=6)
    gone = [hit.id for hit in before.hits[:2]]
    report = archive.remove([*gone, "f" * 32])
    assert (report.removed, report.erased, report.unknown, report.generation) == (2, 0, ["f" * 32], 2)
    assert [hit.id for hit in archive.search(query, k=6).hits] == [hit.id for hit in before.hits[2:]]
    again = archive.repeat(before.receipt)
    assert [hit.id for hit in again.hits] == [hit.id for hit in before.hits] and again.erased == 0
    assert archive.verify() == []


def test_removed_images_can_come_back(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    ids = [image.id for image in archive._store.images([1, 2]).values()]
    archive.remove(ids)
    assert archive.add(folder).added == 2
    assert [image.id for image in archive._store.images([3, 4]).values()] == ids and len(archive) == 2


@pytest.fixture
def labelled(archive, scan, pictures, tmp_path):
    """An archive of three DICOM files with a report each, kept in every way; and what must vanish of the first."""
    rows = []
    for i in range(3):
        path = scan(f"scan-{i}.dcm", seed=i, SOPInstanceUID=f"1.2.840.777.{i}", PatientID=f"PAT{i}")
        rows.append(
            {
                "path": path,
                "text": f"xylophagous{i} nodule in segment {i}",
                "label": f"zebra{i}",
                "modality": "CT",
            }
        )
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    archive.add(tmp_path / "manifest.csv")
    # An earlier version, a preview and a copy of the pixels.
    archive.add(tmp_path / "manifest.csv", pixels="copy")
    # Others around it, so that pages are split and merged.
    archive.add(pictures(120))
    archive.compact()
    archive.add(tmp_path / "manifest.csv", pixels="copy")
    victim = archive._bundles.current().identity.public_id("1.2.840.777.0", 0, "")
    row = archive._store.find(victim)
    encoding = archive._store.encoding(row.row, archive._folder.bundle.digest)
    needles = {
        "id": victim.encode(),
        "raw id": bytes.fromhex(victim),
        "uid": b"1.2.840.777.0",
        "path": b"scan-0.dcm",
        "text": b"xylophagous0",
        "label": b"zebra0",
        "patient": row.patient.encode(),
        "study": row.study.encode(),
        "pixels": row.pixels.encode(),
        "code and content": encoding.content,
    }
    return archive, victim, needles


def test_erasure_leaves_no_byte(labelled):
    archive, victim, needles = labelled
    before = {name for _, name in traces(archive.path, needles)}
    assert before == set(needles)  # the search below could find them all
    report = archive.remove([victim], erase=True)
    assert report.removed == 1 and report.erased >= 1
    assert traces(archive.path, needles) == []
    assert archive.verify() == [] and len(archive) == 122
    assert archive.info()["erasing"] == 0
    archive.close()
    assert traces(archive.path, needles) == []


def test_erasure_takes_earlier_versions_and_leaves_others(labelled):
    archive, victim, _ = labelled
    identity = archive._bundles.current().identity
    others = {
        f"xylophagous{i}".encode(): identity.public_id(f"1.2.840.777.{i}", 0, "") for i in (1, 2)
    }
    archive.remove([victim], erase=True)
    for text, id in others.items():
        row = archive._store.find(id)
        assert text.decode() in " ".join(archive._store.texts(row.row).values())
        assert archive._pixels.read(row.pixels).shape[:2] == archive.picture(id).shape[:2] == (row.height, row.width)
    words = archive._store.connection.execute("SELECT count(*) FROM words WHERE words MATCH 'nodule'")
    assert words.fetchone()[0] == 2


def test_receipts_say_how_many_images_were_erased(archive, pictures):
    folder = pictures(5)
    archive.add(folder)
    result = archive.search(Query(image=folder / "0000.png"), k=5)
    ids = [hit.id for hit in result.hits]
    archive.remove(ids[0])  # removed first, erased later: the receipt is older than both
    archive.remove(ids[:2], erase=True)
    again = archive.repeat(result.receipt)
    assert again.erased == 2 and [hit.id for hit in again.hits] == ids[2:]
    # A receipt from between saw only one of them.
    assert archive._store.erased(2) == 1 and archive._store.erased(archive._store.generation()) == 0


def test_pixels_that_another_image_needs_stay(archive, scan):
    one, two = scan("a.dcm", seed=5, SOPInstanceUID="1.2.1"), scan("b.dcm", seed=5, SOPInstanceUID="1.2.2")
    archive.add([one, two], pixels="copy")
    first, second = archive._store.images([1, 2]).values()
    assert first.pixels == second.pixels and first.id != second.id
    archive.remove(first.id, erase=True)
    assert archive._pixels.read(second.pixels) is not None and archive.verify() == []
    archive.remove(second.id, erase=True)
    assert archive._pixels.read(second.pixels) is None and archive.verify() == []


@pytest.mark.parametrize("stage", ["purge", "unshared", "log_emptied"])
def test_an_interrupted_erasure_is_finished_by_the_next_writer(labelled, encoder, monkeypatch, stage):
    archive, victim, needles = labelled

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal, stage, interrupt)
        with pytest.raises(KeyboardInterrupt):
            archive.remove([victim], erase=True)
    assert len(archive) == 122  # nobody finds it any more
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.info()["erasing"] > 0 and traces(archive.path, needles)
        again.remove([])
        assert again.info()["erasing"] == 0 and again.verify() == []
    assert traces(archive.path, needles) == []


@pytest.fixture
def begun(archive, scan, monkeypatch):
    """An archive in which an erasure is announced and cannot go on; the scan that was announced; go_on()."""
    path = scan("a.dcm", SOPInstanceUID="1.2.3")
    archive.add([path, scan("b.dcm", seed=1)])
    removal.announce_erasure(archive._store, [archive._bundles.current().identity.public_id("1.2.3", 0, "")])
    monkeypatch.setattr("medlike.archive.intake.writer.log_emptied", lambda connection, patience: False)
    return archive, path, monkeypatch.undo


def test_an_announced_erasure_may_be_asked_for_again(begun):
    archive, _, _ = begun
    id = archive._bundles.current().identity.public_id("1.2.3", 0, "")
    report = archive.remove(id, erase=True)
    assert (report.removed, report.erased, report.unknown) == (0, 1, [])
    # Counted once for receipts.
    assert archive._store.erased(1) == 1 and archive.info()["erasing"] == 0 and archive.verify() == []


def test_an_image_added_again_during_its_erasure_keeps_its_link(begun):
    archive, path, go_on = begun
    assert archive.add(path).added == 1 and archive.info()["erasing"] == 1
    go_on()
    archive.remove([])
    assert archive.info()["erasing"] == 0
    assert archive.source(archive._bundles.current().identity.public_id("1.2.3", 0, ""))["path"] == str(path)
    assert archive.verify() == []


def test_a_reader_that_does_not_let_go_is_named(labelled, monkeypatch):
    archive, victim, needles = labelled
    monkeypatch.setattr(removal, "PATIENCE", 0.2)
    reader = sqlite3.connect(archive._folder.store, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM images").fetchone()
    with pytest.raises(ArchiveLocked, match="held by a reader"):
        archive.remove([victim], erase=True)
    archive.remove(["0" * 32])  # other writes go on
    assert archive.info()["erasing"]
    reader.close()
    archive.remove([])
    assert traces(archive.path, needles) == [] and archive.verify() == []
