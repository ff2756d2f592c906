"""Files that others gave are decoded by workers: one that is poisonous is refused, and nothing else is lost."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image as PillowImage

from medlike import Archive, Query
from medlike.errors import ImageError, QueryError, WorkerError
from medlike.imaging import pool


@pytest.fixture
def workers(monkeypatch):
    """The pool of this process: a new one, in which files called crash.png and spread.png do harm."""
    made = pool.WorkerPool(memory=512 << 20, seconds=60.0, faults={"crash.png": "crash", "spread.png": "map"})
    monkeypatch.setattr(pool, "_pool", made)
    yield made
    made.close()


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(5)
    for name in ("a", "b", "crash", "d", "e", "spread", "g"):
        PillowImage.fromarray(random.integers(0, 256, (40, 50), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_poisonous_files_are_refused_and_the_batch_goes_on(archive, workers, pictures):
    report = archive.add(pictures, threads=2)
    assert report.added == 5
    reasons = {path.rsplit("/", 1)[1]: reason for path, reason in report.skipped}
    assert set(reasons) == {"crash.png", "spread.png"}
    assert "SIGSEGV" in reasons["crash.png"]
    assert "memory" in reasons["spread.png"]
    assert 1 <= len(workers.workers()) <= 2
    assert archive.add(pictures, threads=2).unchanged == 5


def test_both_ways_store_the_same(tmp_path, tiny_bundle, encoder, workers, pictures):
    stored = []
    for decoding in ("process", "inline"):
        with Archive.create(tmp_path / decoding, tiny_bundle, encoder=encoder) as archive:
            archive.add(sorted(pictures.glob("?.png")), decoding=decoding)
            rows = [archive._store.find(id) for id in archive.ids()]
            facts = [(row.pixels, row.preview, row.metadata, row.facts) for row in rows]
            stored.append((facts, archive.codes()[1].tobytes()))
    assert stored[0] == stored[1]


def test_inline_starts_no_worker(archive, workers, pictures):
    assert archive.add(pictures / "a.png", decoding="inline").added == 1
    archive.search(Query(pictures / "a.png", decoding="inline"))
    for name in ("b.png", "d.png"):
        archive.receive((pictures / name).read_bytes(), name)
        assert archive.drain(decoding="inline").added == 1
    archive.receive((pictures / "e.png").read_bytes(), "e.png")
    archive.add(pictures / "g.png", decoding="inline")
    assert len(archive) == 5
    assert not workers.workers()


def test_arrays_and_stored_images_start_no_worker(archive, workers, pictures):
    archive.add(pictures / "a.png", decoding="inline")
    (id,) = archive.ids()
    archive.search(Query(id=id))
    archive.search(np.zeros((30, 30), np.uint8))
    assert archive.picture(id) is not None
    assert not workers.workers()


def test_a_received_file_that_crashes_its_decoder_is_set_aside(archive, workers, pictures, monkeypatch):
    archive.receive((pictures / "a.png").read_bytes(), "a.png")
    ticket = archive.receive((pictures / "crash.png").read_bytes(), "crash.png")
    (entry,) = (entry for entry in archive._spool.entries() if entry.ticket == ticket)
    monkeypatch.setattr(workers, "faults", {entry.path.name: "crash"})
    report = archive.drain()
    assert report.added == 1
    assert archive.status(ticket).state == "refused"
    assert "SIGSEGV" in archive.status(ticket).reason


def test_a_query_that_crashes_its_decoder_is_an_error(archive, workers, pictures):
    archive.add(pictures / "a.png")
    with pytest.raises(ImageError, match="SIGSEGV"):
        archive.search(pictures / "crash.png")
    assert len(archive.search(pictures / "a.png", include_self=True).hits) == 1


def test_a_preview_from_an_original_that_crashes_its_decoder_is_absent(archive, workers, pictures):
    archive.add(pictures / "crash.png", decoding="inline")
    (id,) = archive.ids()
    row = archive._store.find(id)
    archive._pixels.preview_path(row.preview).unlink()
    assert archive.picture(id) is None


def test_workers_that_do_not_start_end_the_run(archive, workers, pictures, monkeypatch):
    monkeypatch.setattr(pool, "_START", "raise SystemExit('no such part')")
    with pytest.raises(WorkerError, match="inline"):
        archive.add(pictures)


def test_an_unknown_way_of_decoding_is_refused(archive, pictures):
    with pytest.raises(QueryError, match="'process' or 'inline'"):
        archive.add(pictures, decoding="thread")
    with pytest.raises(QueryError, match="'process' or 'inline'"):
        Query(pictures / "a.png", decoding="thread")


def test_a_forked_process_has_workers_of_its_own(pictures):
    code = (
        "import os, sys\n"
        "from medlike.imaging import decoding, pool\n"
        f"path = {str(pictures / 'a.png')!r}\n"
        "list(decoding.read(path))\n"
        "mine = pool._pool.workers()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    good = len(list(decoding.read(path))) == 1 and pool._pool.workers() != mine\n"
        "    sys.exit(0 if good else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert len(list(decoding.read(path))) == 1 and pool._pool.workers() == mine\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
