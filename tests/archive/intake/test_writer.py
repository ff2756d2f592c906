"""Writers of an archive take turns, and commit first what was received."""

import threading
import time

import pytest

from medlike.archive.intake import ingest
from medlike.errors import ArchiveLocked, InputError


def until(condition):
    while not condition():
        time.sleep(0.001)


def test_an_add_gives_way_to_a_removal_between_two_groups(archive, pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 4)
    monkeypatch.setattr(ingest, "BATCH", 2)
    first = archive.add(pictures(2, seed=5, name="first"))
    doomed = archive.search(str(next((pictures(2, seed=5, name="first")).glob("*.png"))), k=1)[0].id
    done = []

    def remove():
        done.append(archive.remove(doomed, wait=60).generation)

    worker = threading.Thread(target=remove)

    def progress(report):
        if not worker.ident:
            worker.start()
            until(archive._lock._awaited)

    report = archive.add(pictures(12, seed=6, name="second"), progress=progress)
    worker.join()
    assert first.generation < done[0] < report.generation, "the removal came between two groups"
    assert report.added == 12 and len(archive) == 13 and archive.verify() == []


def test_without_patience_a_writer_is_told_at_once(archive):
    archive._lock.take()
    errors = []

    def remove():
        with pytest.raises(ArchiveLocked, match="another thread"):
            archive.remove("0" * 32)
        errors.append(True)

    worker = threading.Thread(target=remove)
    worker.start()
    worker.join()
    archive._lock.release(clean=True)
    assert errors == [True]


def test_an_add_takes_in_what_was_received(archive, pictures):
    folder = pictures(2)
    archive.receive((folder / "0001.png").read_bytes(), "b.png")
    archive.add(folder / "0000.png")
    assert len(archive) == 2


@pytest.mark.parametrize("erase", [False, True])
def test_a_removal_does_not_wait_for_what_was_received(archive, pictures, monkeypatch, erase):
    folder = pictures(3)
    archive.add(folder / "0000.png")
    doomed, *_ = archive.ids()
    archive.receive((folder / "0001.png").read_bytes(), "b.png")
    monkeypatch.setattr(archive._writer, "_drain", lambda *_: pytest.fail("it waited"))
    assert archive.remove(doomed, erase=erase).removed == 1
    archive.compact()
    assert archive.verify() == [] and archive.info()["received"] == 1


@pytest.mark.parametrize("erase", [False, True])
def test_a_file_received_before_a_removal_does_not_bring_its_image_back(archive, scan, pictures, erase):
    picture, dicom = pictures(1) / "0000.png", scan("a.dcm", SOPInstanceUID="1.2.3")
    archive.add([picture, dicom])
    for path in (picture, dicom):
        ticket = archive.receive(path.read_bytes(), path.name)
    archive.remove(archive.ids(), erase=erase)
    assert archive.info()["received"] == (0 if erase else 2)
    archive.receive((pictures(2) / "0001.png").read_bytes(), "other.png")
    assert archive.drain().added == 1 and len(archive) == 1, "the removed images stay away"
    with pytest.raises(InputError):
        archive.status(ticket)
    archive.receive(picture.read_bytes(), "again.png")
    archive.drain()
    assert len(archive) == 2, "what is received later counts"
    assert archive._store.setting("withdrawn", "") == "" and archive.verify() == []


def test_an_erasure_leaves_a_received_image_that_only_refers_to_the_erased_one(archive, scan):
    archive.add(scan("a.dcm", SOPInstanceUID="1.2.3"))
    (erased,) = archive.ids()
    archive.receive(scan("b.dcm", seed=2, SOPInstanceUID="1.2.4", FrameOfReferenceUID="1.2.3").read_bytes(), "b.dcm")
    archive.remove(erased, erase=True)
    assert archive.drain().added == 1
