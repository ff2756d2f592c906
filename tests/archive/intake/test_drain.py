"""Received files are committed once, with their facts, and their tickets tell their state."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medlike import imaging
from medlike.archive.intake import drain, ingest
from medlike.archive.storage import record
from medlike.errors import ArchiveError, ArchiveFull, BundleError, InputError


def test_a_ticket_says_what_became_of_a_file(archive, pictures):
    file = pictures(1) / "0000.png"
    ticket, broken = archive.receive(file.read_bytes(), "a.png"), archive.receive(b"no image", "b.png")
    assert archive.status(ticket).state == archive.status(broken).state == "received"
    archive.drain()
    status = archive.status(ticket)
    assert status.state == "indexed" and status.ids == (archive.search(str(file), k=1)[0].id,)
    refused = archive.status(broken)
    assert (refused.state == "refused" and "neither DICOM nor" in refused.reason) or "text file" in refused.reason
    with pytest.raises(InputError, match="no file was received"):
        archive.status("0" * 37)
    archive.remove(status.ids, erase=True)
    with pytest.raises(InputError, match="erased"):
        archive.status(ticket)


def test_what_was_received_is_committed_with_its_facts(archive, scan):
    path = scan("a.dcm", SOPInstanceUID="1.2.3.4", PatientID="P-1")
    archive.receive(path.read_bytes(), "a.dcm", metadata={"label": "lung"}, texts={"report": "clear lungs"})
    assert len(archive) == 0 and archive.info()["received"] == 1
    assert archive.drain().added == 1
    row = archive._store.images([1])[1]
    assert row.id == archive._bundles.current().identity.public_id("1.2.3.4", 0, "") and row.kind == "copy"
    assert row.label == "lung" and archive._store.texts(row.row) == {"report": "clear lungs"}
    assert (archive._pixels.read(row.pixels) == next(imaging.read(path)).pixels).all()
    assert archive.source(row.id)["path"] is None and archive.info()["received"] == 0
    assert [path.name for path in archive._folder.spool.iterdir()] == ["counter"] and archive.verify() == []


def test_the_same_file_twice_is_one_image(archive, pictures):
    data = (pictures(1) / "0000.png").read_bytes()
    assert archive.receive(data, "a.png") != archive.receive(data, "a.png")
    report = archive.drain()
    assert (report.added, report.unchanged, len(archive)) == (1, 1, 1)


def test_a_commit_that_was_not_struck_off_is_replayed_without_harm(archive, pictures, monkeypatch):
    archive.receive((pictures(1) / "0000.png").read_bytes(), "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(archive._spool, "done", lambda entry: None)
        assert archive.drain().added == 1
    report = archive.drain()
    assert (report.added, report.unchanged, len(archive)) == (0, 1, 1)


def test_the_later_version_of_an_image_stays(archive, scan):
    for seed in (1, 2):
        path = scan("a.dcm", seed=seed, SOPInstanceUID="1.2.3", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
        archive.receive(path.read_bytes(), "a.dcm")
    report = archive.drain()
    assert (report.added, report.replaced) == (1, 1)
    row = archive._store.find(archive._bundles.current().identity.public_id("1.2.3", 0, ""))
    assert row.pixels == next(imaging.read(path)).digest


def test_every_frame_of_a_received_file_is_taken(archive, tmp_path):
    from PIL import Image

    stack = [Image.fromarray(np.full((16, 16), 10 * i, np.uint8)) for i in range(4)]
    stack[0].save(tmp_path / "stack.tif", save_all=True, append_images=stack[1:])
    archive.receive((tmp_path / "stack.tif").read_bytes(), "stack.tif")
    assert archive.drain().added == 4


def received(archive, pictures, count=5):
    return [archive.receive(path.read_bytes(), path.name) for path in sorted(pictures(count).glob("*.png"))]


def fails_on(monkeypatch, name, error):
    """Encode as before, except for what was received under a name; the number of times that it failed."""
    tries, original = [], ingest.Intake._take

    def take(self, path, taken):
        if name in taken.record.columns["metadata"].get("label", ""):
            tries.append(path)
            raise error
        original(self, path, taken)

    monkeypatch.setattr(ingest.Intake, "_take", take)
    return tries


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), MemoryError(), sqlite3.IntegrityError("odd"), RecursionError(), OSError(5, "?")],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_fails_twice_is_set_aside_and_the_others_are_committed(archive, pictures, monkeypatch, error):
    files = sorted(pictures(5).glob("*.png"))
    for number, path in enumerate(files):
        archive.receive(path.read_bytes(), path.name, {"label": "poison" if number == 2 else "sound"})
    tries = fails_on(monkeypatch, "poison", error)
    report = archive.drain()
    assert len(tries) == 2 and report.added == 4 and len(archive) == 4
    ((name, reason),) = report.skipped
    assert name == "0002.png" and reason.startswith(type(error).__name__)
    assert [entry["name"] for entry in archive.info()["refused"]] == ["0002.png"]
    assert archive.verify() == [] and archive.drain().skipped == []


@pytest.mark.parametrize(
    "error",
    [ArchiveFull("full"), BundleError("gone"), KeyboardInterrupt(), OSError(28, "full"), OSError(24, "many")],
    ids=lambda error: type(error).__name__,
)
def test_what_is_no_fault_of_a_file_sets_nothing_aside(archive, pictures, monkeypatch, error):
    (path,) = pictures(1).glob("*.png")
    archive.receive(path.read_bytes(), path.name, {"label": "poison"})
    with monkeypatch.context() as patch:
        fails_on(patch, "poison", error)
        with pytest.raises(type(error)):
            archive.drain()
    assert archive.info()["refused"] == [] and archive._spool.tried() == {}
    assert archive.drain().added == 1 and archive.verify() == []


def test_a_damaged_store_is_no_fault_of_the_files(archive, pictures, monkeypatch):
    received(archive, pictures, 3)
    error = ArchiveError("damaged")
    error.__cause__ = sqlite3.DatabaseError("malformed")
    monkeypatch.setattr(ingest.Intake, "_commit", lambda self: (_ for _ in ()).throw(error))
    with pytest.raises(ArchiveError, match="damaged"):
        archive.drain()
    assert archive.info()["received"] == 3 and archive.info()["refused"] == []


def test_a_file_that_ends_the_process_twice_is_set_aside(archive, pictures):
    """Killed by it, or for the memory that it takes: what is under way is noted before."""
    tickets = received(archive, pictures, 3)
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[3]); import workload\n"
        "from medlike.archive.intake import ingest\n"
        "take = ingest.Intake._take\n"
        "def struck(self, source, taken):\n"
        "    return os._exit(9) if sys.argv[2] in str(source.path) else take(self, source, taken)\n"
        "ingest.Intake._take = struck\n"
        "archive = workload.Archive.open(sys.argv[1], encoder=workload.StandIn())\n"
        "print([reason for _, reason in archive.drain().skipped])\n"
    )
    command = [sys.executable, "-c", program, archive.path, tickets[1], Path(__file__).parents[1] / "crash"]
    states = []
    for _ in range(3):
        ended = subprocess.run(command, capture_output=True, text=True)
        states.append((ended.returncode, archive.info()["received"]))
    assert states == [(9, 3), (9, 2), (0, 0)], ended.stderr
    assert "ended twice" in ended.stdout and len(archive) == 2
    assert archive.status(tickets[1]).state == "refused" and archive.verify() == []


def test_a_file_that_cannot_be_read_is_set_aside(archive, pictures, monkeypatch):
    (ticket,) = received(archive, pictures, 1)
    original = drain.durable.read

    def read(path, most=None):
        if path.suffix == ".png":
            raise OSError(5, "Input/output error")
        return original(path, most)

    monkeypatch.setattr(record, "of_image", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    monkeypatch.setattr(drain.durable, "read", read)
    assert archive.drain().added == 0 and archive.status(ticket).state == "refused"
    assert archive.info()["received"] == 0


def test_more_files_than_a_group_are_committed_in_order(archive, pictures, monkeypatch):
    monkeypatch.setattr(drain, "GROUP", 2)
    tickets = received(archive, pictures, 5)
    report = archive.drain()
    assert report.added == 5 and report.files == 5 and report.seconds["total"] > 0
    assert [archive.status(ticket).ids for ticket in tickets] == [(id,) for id in archive.ids()]


def test_the_order_of_versions_does_not_come_from_the_clock(archive, scan, monkeypatch):
    from medlike.archive.storage import spool

    times = iter([2 * 10**18, 10**18, 5])
    monkeypatch.setattr(spool.time, "time_ns", lambda: next(times, 1))
    tickets = []
    for seed in (1, 2, 3):
        path = scan("a.dcm", seed=seed, SOPInstanceUID="1.2.3", StudyInstanceUID="1.4", SeriesInstanceUID="1.5")
        tickets.append(archive.receive(path.read_bytes(), "a.dcm"))
    assert tickets == sorted(tickets) and len({ticket[:20] for ticket in tickets}) == 3
    archive.drain()
    assert archive._store.images(archive._store.select("removed IS NULL")).popitem()[1].pixels == (
        next(imaging.read(path)).digest
    )
