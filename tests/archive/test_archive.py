"""Making and opening archives: what is refused, and what is said then."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from medlike import Archive, Bundle, Query
from medlike.archive.storage import creation
from medlike.bundle import rewrite
from medlike.errors import ArchiveError, ArchiveLocked, BundleError


def test_a_new_archive_is_empty_and_can_be_searched(archive, pictures):
    result = archive.search(Query(image=pictures(1) / "0000.png"))
    assert list(result.hits) == [] and len(archive) == 0 and archive.verify() == []


def test_info_tells_parts_bundle_and_generation(archive, pictures, tiny_bundle):
    archive.add(pictures(3))
    facts = archive.info()
    assert facts["images"] == 3 and facts["generation"] == 1
    assert facts["bundle"] == {"name": "tiny-64", "digest": tiny_bundle.digest}
    assert facts["bytes"]["previews"] == sum(
        path.stat().st_size for path in (archive.path / "pixels" / "previews").rglob("*.jpg")
    )
    assert set(facts["bytes"]) == {"store", "pixels", "previews", "index", "private", "spool"}


def test_opens_where_it_was_made(archive, pictures, encoder):
    archive.add(pictures(2))
    with Archive.open(archive.path, encoder=encoder) as again:
        assert len(again) == 2 and again._folder == archive._folder


def test_finds_its_bundle_by_itself(archive, pictures):
    archive.add(pictures(2))
    with Archive.open(archive.path) as again:
        assert len(again.search(Query(image=pictures(1) / "0000.png")).hits) == 2


def test_refuses_a_newer_format(archive):
    path = archive.path / "archive.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 3}))
    with pytest.raises(ArchiveError, match="format 3; this medlike reads up to 2: install a newer medlike"):
        Archive.open(archive.path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "bundle": {"a": 1}}'])
def test_refuses_a_damaged_description(archive, content):
    (archive.path / "archive.json").write_text(content)
    with pytest.raises(ArchiveError, match="is damaged"):
        Archive.open(archive.path)


def test_refuses_what_is_no_archive(tmp_path):
    with pytest.raises(ArchiveError, match="is not an archive"):
        Archive.open(tmp_path)


def test_refuses_a_damaged_store(archive, pictures):
    archive.add(pictures(1))
    archive.close()
    (archive.path / "store.sqlite").write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(ArchiveError, match="is damaged"):
        len(Archive.open(archive.path))


def test_refuses_a_missing_store_and_a_missing_key(archive, pictures, encoder):
    (archive.path / "private" / "key").unlink()
    with Archive.open(archive.path, encoder=encoder) as opened, pytest.raises(ArchiveError, match="key"):
        opened.add(pictures(1))
    (archive.path / "private" / "key").write_text("ab" * 32)
    with Archive.open(archive.path, encoder=encoder) as opened, pytest.raises(ArchiveError, match="not this"):
        opened.add(pictures(1))
    (archive.path / "store.sqlite").unlink()
    with pytest.raises(ArchiveError, match=r"store\.sqlite is missing"):
        Archive.open(archive.path)


def test_refuses_another_bundle(archive, tiny_regional_bundle):
    with pytest.raises(ArchiveError, match=r"gives other codes: run `medlike reindex --archive .* --bundle"):
        Archive.open(archive.path, bundle=tiny_regional_bundle)


def test_by_id_the_verdict_is_that_by_image(tmp_path, tiny_bundle, pictures):
    folder = pictures(4)
    spec = {**tiny_bundle.spec["outlier"], "threshold": 0.05}  # not the usual one
    bundle = rewrite(tiny_bundle, tmp_path / "strict", {}, {"outlier": spec})
    with Archive.create(tmp_path / "archive", bundle) as made:
        made.add(folder)
        for path in sorted(folder.glob("*.png")):
            by_image = made.search(Query(image=path))
            assert by_image.outlier["components"] and by_image.outlier["threshold"] == 0.05
            assert made.search(Query(id=by_image.hits[0].id)).outlier == by_image.outlier
        made.backup(tmp_path / "backup")
    with Archive.restore(tmp_path / "backup", tmp_path / "copy") as copy:
        assert copy.search(Query(id=by_image.hits[0].id)).outlier == by_image.outlier


def test_an_archive_without_stored_components_says_so_until_it_is_written_to(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    by_image = archive.search(Query(image=folder / "0001.png"))
    old = by_image.hits[0].id
    archive._store.connection.execute("ALTER TABLE encodings DROP COLUMN outlier_facts")
    with Archive.open(archive.path) as reader:
        found = reader.search(Query(id=old)).outlier
        assert found.pop("note").startswith("indexed by an earlier medlike")
        assert found == {**by_image.outlier, "components": {}, "modality": None, "threshold": 0.03}
        archive.add(pictures(3))
        assert reader.search(Query(id=old)).outlier["components"] == {}
        new = reader.search(Query(image=folder / "0002.png"))
        assert reader.search(Query(id=new.hits[0].id)).outlier == new.outlier and reader.verify() == []


def test_a_bundle_fitted_to_a_site_gives_its_verdicts_and_is_remembered(tmp_path, tiny_bundle, pictures):
    folder = pictures(4)
    with Archive.create(tmp_path / "archive", tiny_bundle) as made:
        made.add(folder)
        before = made.search(Query(image=folder / "0001.png"))
    # Calibration scores that nothing reaches: no image is an outlier any more.
    scores = np.full_like(tiny_bundle.array("outlier.calibration"), 1e6)
    fitted = rewrite(tiny_bundle, tmp_path / "ours", {"outlier.calibration": scores})
    with Archive.open(tmp_path / "archive", bundle=fitted) as opened:
        after = opened.search(Query(image=folder / "0001.png"))
    assert [hit.id for hit in after.hits] == [hit.id for hit in before.hits] and after.hits[0].distance == 0
    assert before.outlier["is_outlier"] and not after.outlier["is_outlier"] and after.outlier["p_value"] == 1
    reader = Archive.open(tmp_path / "archive")
    assert reader.search(Query(image=folder / "0001.png")).outlier == before.outlier  # nothing was written yet
    with Archive.open(tmp_path / "archive", bundle=tmp_path / "ours") as opened:
        assert opened.add(pictures(6)).added == 2
    for archive in (reader, Archive.open(tmp_path / "archive")):
        result = archive.search(Query(image=folder / "0001.png"))
        assert result.outlier == after.outlier and len(result.hits) == 6
        assert archive.verify() == []
        archive.close()


def test_a_shipped_bundle_fitted_to_a_site_keeps_its_name_and_is_found_again(tmp_path, pictures):
    shipped = Bundle.load("medlike-itq-64")
    rewrite(shipped, tmp_path / "ours", {"extra": np.ones(1, np.float32)})
    with Archive.create(tmp_path / "archive", tmp_path / "ours") as made:
        assert made._folder.bundle.name == shipped.name
    with Archive.open(tmp_path / "archive") as opened:
        assert opened._bundles.current().encoder.bundle.path == tmp_path / "ours"
    with Archive.create(tmp_path / "plain", shipped) as made:
        assert made._folder.bundle.path is None


def test_notices_that_its_bundle_was_replaced(tmp_path, pictures):
    from tests.conftest import make_tiny_bundle

    bundle = make_tiny_bundle(tmp_path / "bundle")
    Archive.create(tmp_path / "archive", bundle).close()
    make_tiny_bundle(tmp_path / "other", seed=9)
    bundle.path.rename(tmp_path / "was")
    (tmp_path / "other").rename(bundle.path)
    with Archive.open(tmp_path / "archive") as opened, pytest.raises(BundleError, match="has digest"):
        opened.add(pictures(1))


def test_a_bundle_that_moved_is_named_and_can_be_given_again(tmp_path, tiny_bundle, pictures):
    at = rewrite(tiny_bundle, tmp_path / "here").path
    Archive.create(tmp_path / "archive", at).close()
    at.rename(tmp_path / "there")
    with Archive.open(tmp_path / "archive") as opened, pytest.raises(BundleError, match=r"no longer at .*--bundle"):
        opened.add(pictures(1))
    with Archive.open(tmp_path / "archive", bundle=tmp_path / "there") as opened:
        assert opened.add(pictures(1)).added == 1
    with Archive.open(tmp_path / "archive") as opened:
        assert opened.add(pictures(2)).added == 1


def test_refuses_to_overwrite(archive, tmp_path, tiny_bundle):
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(archive.path, tiny_bundle)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ArchiveError, match="is not empty"):
        Archive.create(tmp_path / "full", tiny_bundle)


def test_a_failed_creation_can_be_repeated(tmp_path, tiny_bundle, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(creation, "Store", None)  # as if killed there
        with pytest.raises(AttributeError):
            Archive.create(tmp_path / "archive", tiny_bundle)
    with pytest.raises(ArchiveError, match="is not an archive"):
        Archive.open(tmp_path / "archive")
    with Archive.create(tmp_path / "archive", tiny_bundle) as made:
        assert made.verify() == []
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(tmp_path / "archive", tiny_bundle)


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


SLOW_CREATION = """
import sys
from medlike import Archive
from medlike.archive.storage import creation
made = creation.Links.create
def slowly(private):
    print("creating", flush=True)
    sys.stdin.readline()
    made(private)
creation.Links.create = slowly
with Archive.create(sys.argv[1], sys.argv[2]) as archive:
    print(archive.verify(), flush=True)
"""


def test_two_processes_that_create_one_archive_do_not_harm_each_other(tmp_path, tiny_bundle):
    command = [sys.executable, "-c", SLOW_CREATION, tmp_path / "a", tiny_bundle.path]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "creating\n"
        with pytest.raises(ArchiveLocked, match=f"being written by process {first.pid} on "):
            Archive.create(tmp_path / "a", tiny_bundle)
        said, _ = first.communicate("go on\n", timeout=60)
    finally:
        first.kill()
    assert said == "[]\n"
    with pytest.raises(ArchiveError, match="holds an archive"):
        Archive.create(tmp_path / "a", tiny_bundle)


def test_a_second_writer_is_told_who_writes(archive, pictures, encoder):
    def meanwhile(report):
        with Archive.open(archive.path, encoder=encoder) as second:
            with pytest.raises(ArchiveLocked, match=f"being written by process {os.getpid()} on "):
                second.remove(["0" * 32])
            # A reader needs no lock.
            assert len(second) == report.added
            seen.append(report.added)

    seen = []
    archive.add(pictures(3), progress=meanwhile)
    assert seen == [3]
    assert archive.remove(["0" * 32]).unknown == ["0" * 32]


def test_another_process_is_refused_too(archive, pictures):
    program = (
        "import sys; from medlike import Archive; from medlike.errors import ArchiveLocked\n"
        "try: Archive.open(sys.argv[1]).remove(['x'])\n"
        "except ArchiveLocked as error: print(error)"
    )

    def meanwhile(report):
        run = subprocess.run(
            [sys.executable, "-c", program, archive.path], capture_output=True, text=True, check=True
        )
        assert f"process {os.getpid()} " in run.stdout
        asked.append(1)

    asked = []
    archive.add(pictures(1), progress=meanwhile)
    assert asked


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
