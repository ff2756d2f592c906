"""Writers take turns: a short write waits for a long one, which gives way between two groups."""

import os
import resource
import subprocess
import sys
import threading
import time

import pytest

from medlike import Archive
from medlike.archive.storage.lock import WriterLock
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked


def until(condition):
    while not condition():
        time.sleep(0.001)


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


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


def test_a_pipe_for_a_lock_is_refused_and_not_waited_for(archive):
    archive.close()
    (archive.path / "writer.lock").unlink(missing_ok=True)
    os.mkfifo(archive.path / "writer.lock")
    with pytest.raises(ArchiveError, match="no regular file"):
        Archive.open(archive.path)


def test_a_full_disk_does_not_keep_the_lock(archive, picture):
    """The limit on the size of files stands in for the disk: not a byte of the lock's own file can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        for _ in range(2):
            with pytest.raises(ArchiveFull, match="is full"):
                archive.remove([])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    other = f"from medlike import Archive; Archive.open({str(archive.path)!r}).remove([])"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    archive.receive(picture, "a.png")
    assert archive.drain().added == 1 and archive.verify() == []


def test_a_lock_that_cannot_be_released_cleanly_is_released(archive, monkeypatch):
    def fails(descriptor, size):
        raise OSError(28, "No space left on device")

    archive._lock.take()
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fails)
        with pytest.raises(ArchiveFull):
            archive._lock.release(clean=True)
    assert archive._lock.state() == "died"
    archive.remove([])
    assert archive._lock.state() == "free"
