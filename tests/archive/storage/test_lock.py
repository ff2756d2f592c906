"""Writers take turns: a short write waits for a long one, which gives way between two groups."""

import subprocess
import sys
import threading
import time

import pytest

from medlike.archive.intake import ingest
from medlike.archive.storage.lock import WriterLock
from medlike.errors import ArchiveLocked, InputError


def until(condition):
    while not condition():
        time.sleep(0.001)


def test_a_writer_waits_for_another_thread(tmp_path):
    lock, taken = WriterLock(tmp_path), threading.Event()
    lock.take()

    def wait():
        lock.take(timeout=60, short=True)
        taken.set()
        lock.release(clean=True)

    worker = threading.Thread(target=wait)
    worker.start()
    until(lock._awaited)
    assert not taken.is_set()
    lock.release(clean=True)
    worker.join()
    assert taken.is_set() and lock.state() == "free" and not lock._awaited()


def test_a_writer_waits_for_another_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from medlike.archive.storage.lock import WriterLock\n"
        "lock = WriterLock(Path(sys.argv[1])); lock.take(); print('held', flush=True)\n"
        "sys.stdin.readline(); lock.release(clean=True)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    lock = WriterLock(tmp_path)
    with pytest.raises(ArchiveLocked, match=f"process {holder.pid} on"):
        lock.take()
    threading.Thread(target=lambda: (until(lock._awaited), holder.communicate("go on\n"))).start()
    assert lock.take(timeout=60, short=True) is False
    lock.release(clean=True)


def test_nobody_gives_way_to_nobody(tmp_path):
    lock = WriterLock(tmp_path)
    lock.take()
    assert lock.give_way() is None and lock.state() == "held"
    lock.release(clean=True)


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
