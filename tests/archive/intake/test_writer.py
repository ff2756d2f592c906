"""Writers of an archive take turns, and commit first what was received."""

import threading
import time

import pytest

from medlike import imaging
from medlike.archive.intake import ingest
from medlike.errors import ArchiveLocked


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


def test_every_other_write_takes_in_what_was_received(archive, pictures):
    folder = pictures(3)
    archive.receive((folder / "0002.png").read_bytes(), "c.png")
    digest = next(imaging.read(folder / "0002.png")).digest
    assert archive.remove(archive._bundles.current().identity.public_id(None, 0, digest)).removed == 1
    archive.receive((folder / "0001.png").read_bytes(), "b.png")
    archive.add(folder / "0000.png")
    assert len(archive) == 2
