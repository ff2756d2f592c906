"""Connections: closed with their thread, and opened to read where nobody may write."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from medlike import Archive
from medlike.archive.storage.database import EACH, each


def test_a_thread_that_ended_holds_no_file(archive):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    def read():
        assert archive._store.count() == 0 and archive._links.find(["x"]) == {}

    read()
    before = descriptors()
    for _ in range(10):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    # SQLite keeps one of each of the two databases, for the next connection.
    assert descriptors() <= before + 2


STRANGER = """
import importlib, os, pkgutil, sys
import medlike.archive, medlike.imaging
from medlike import Archive, Query, bundle
from medlike.errors import ArchiveError
for module in pkgutil.walk_packages(medlike.archive.__path__, "medlike.archive."):  # nobody may not read Python
    importlib.import_module(module.name)
loaded = bundle.Bundle.load(sys.argv[3])
if os.geteuid() == 0:  # root may do everything: become nobody
    os.setegid(65534)
    os.seteuid(65534)
new, folder, _, steps = sys.argv[1:]
try:
    exec(steps)
except ArchiveError as error:
    print(error)
"""


@pytest.fixture
def stranger(archive, pictures, tiny_bundle):
    """Runs steps as a user who may read the archive, not write to it: the lines that are printed."""
    archive.add(pictures(3))
    archive.close()
    folder = Path(tempfile.mkdtemp(prefix="medlike-test-", dir="/tmp"))
    shutil.copytree(archive.path, folder / "archive")
    facts = folder / "archive" / "archive.json"
    facts.write_text(json.dumps({**json.loads(facts.read_text()), "shared": True}))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def attempt(steps):
        words = [folder / "new", folder / "archive", tiny_bundle.path, steps]
        run = subprocess.run([sys.executable, "-c", STRANGER, *words], capture_output=True, text=True, timeout=60)
        assert not run.returncode, run.stderr
        return run.stdout.splitlines()

    yield folder, attempt
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_no_permission_is_said(stranger):
    folder, attempt = stranger
    (line,) = attempt("Archive.create(new, loaded)")
    assert line.endswith("check permissions")
    (line,) = attempt("Archive.open(folder).remove(['0' * 32])")
    assert line.endswith("check permissions")
    (folder / "archive" / "archive.json").chmod(0)
    assert "archive.json cannot be read" in attempt("Archive.open(folder)")[0]


READ = """
from tempfile import TemporaryDirectory
with Archive.open(folder, loaded) as archive, TemporaryDirectory() as place:
    id = archive._store.images([1])[1].id
    hits = archive.search(Query(id=id), include_self=True).hits
    print(len(archive), len(hits), hits[0].distance, hits[0].source is not None, archive.info()["images"])
    print([problem.part for problem in archive.verify()], archive.backup(place + "/backup", links=True).images)
"""


def test_reading_needs_no_permission_to_write(stranger):
    folder, attempt = stranger
    before = sorted(folder.rglob("*"))
    assert attempt(READ) == ["3 3 0 True 3", "['permissions'] 3"]
    assert sorted(folder.rglob("*")) == before
    (folder / "archive" / "private").chmod(0o700)  # as it is made: where images came from is for its owner
    steps = "id = opened._store.images([1])[1].id; print([hit.source for hit in opened.search(Query(id=id)).hits])"
    assert attempt(f"opened = Archive.open(folder, loaded); {steps}") == ["[None, None]"]
    steps = "print(len(opened.search(Query(id=id), where={'frames': 1}).hits), opened.info()['bytes']['private'])"
    steps = f"opened = Archive.open(folder, loaded); id = opened._store.images([1])[1].id; {steps}"
    assert attempt(steps) == ["2 0"]


def test_who_may_not_write_follows_who_may(stranger, pictures, encoder, tiny_bundle):
    if os.geteuid():
        pytest.fail("two users are needed: run the tests as root")
    folder, _ = stranger
    steps = """
archive = Archive.open(folder, loaded)
print(len(archive), flush=True)
for line in sys.stdin:
    print(len(archive), len(archive.search(Query(id=archive._store.images([1])[1].id), k=99).hits), flush=True)
"""
    words = [folder / "new", folder / "archive", tiny_bundle.path, steps]
    command = [sys.executable, "-c", STRANGER, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:

        def seen():
            reader.stdin.write("?\n")
            reader.stdin.flush()
            return reader.stdout.readline().strip()

        assert reader.stdout.readline() == "3\n" and seen() == "3 2"
        with Archive.open(folder / "archive", encoder=encoder) as archive:
            archive.add(pictures(2, seed=1, name="more"))
            assert seen() == "5 4"
            archive.add(pictures(2, seed=2, name="yet more"))
            assert seen() == "7 6"
        assert seen() == "7 6"
        with Archive.open(folder / "archive", encoder=encoder) as archive:
            archive.add(pictures(1, seed=3, name="last"))
        assert seen() == "8 7"
        reader.stdin.close()


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 8])
def test_pages_hold_every_row_once_in_order(archive, rows):
    store = archive._store
    numbers = [3 * row + 1 for row in range(rows)]
    store.connection.executemany("INSERT INTO erasing VALUES (?)", [(number,) for number in numbers])
    sql = "SELECT row FROM erasing WHERE row > :last AND row <> :left_out ORDER BY row LIMIT :size"
    pages = list(store.pages(sql, {"left_out": 1}, size=4))
    assert [row for page in pages for (row,) in page] == numbers[1:]
    assert all(0 < len(page) <= 4 for page in pages)
    store.connection.execute("DELETE FROM erasing")


def test_any_number_of_values_is_bound_as_one(archive):
    numbers = [7, 2**40, 5]
    archive._store.connection.executemany("INSERT INTO erasing VALUES (?)", [(number,) for number in numbers])
    sql = f"SELECT row FROM erasing WHERE row IN {EACH} ORDER BY row"
    assert archive._store.query(sql, (each(range(8)),)) == [(5,), (7,)]
    assert archive._store.query(sql, (each([]),)) == []
    assert archive._store.query(sql, (each(range(2**40 - 50_000, 2**40 + 1)),)) == [(2**40,)]
    archive._store.connection.execute("DELETE FROM erasing")
