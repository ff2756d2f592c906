"""Archives of every format that medlike ever wrote open, answer as they did, and grow."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from medlike import Archive, Query, samples

DATA = Path(__file__).parent / "data"
QUERY = samples() / "queries/ct-4-3.dcm"


@pytest.fixture
def stored(tmp_path):
    """A function that unpacks the archive of a format: its folder, and what was found in it when it was made."""

    def unpacked(name):
        with tarfile.open(DATA / f"{name}.tar.xz") as packed:
            packed.extractall(tmp_path, filter="data")
        for path in [tmp_path / name, *(tmp_path / name).rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        return tmp_path / name, json.loads((tmp_path / f"{name}.json").read_text())

    return unpacked


@pytest.mark.slow
def test_an_archive_of_format_1_is_searched_and_added_to(stored, pictures):
    folder, then = stored("format-1")
    assert json.loads((folder / "archive.json").read_text())["format"] == 1
    hits = [tuple(hit) for hit in then["hits"]]
    with Archive.open(folder) as archive:
        assert archive.verify() == []
        assert [(hit.id, hit.distance) for hit in archive.search(QUERY, k=4, codes="trained")] == hits
        repeated = archive.repeat(then["receipt"])
        assert [(hit.id, hit.distance) for hit in repeated] == hits and not repeated.warnings
        assert archive.search(Query(text="round mass"), k=1)[0].metadata["label"] == "us-breast-10"
        generation = archive.info()["generation"]
        report = archive.add([pictures(2), QUERY])
        # The file has no label, which the received one had.
        assert (report.added, report.replaced, report.conflicts) == (2, 1, [])
        assert len(archive) == 6 and archive.info()["generation"] > generation
        assert [(hit.id, hit.distance) for hit in archive.repeat(then["receipt"])] == hits
        assert archive.verify() == []


@pytest.mark.slow
def test_an_archive_of_format_1_is_upgraded_and_answers_as_before(stored):
    folder, then = stored("format-1")
    hits = [tuple(hit) for hit in then["hits"]]
    with Archive.open(folder) as archive:
        stored_codes = "SELECT row, code, content FROM encodings ORDER BY row"
        codes, generation = archive._store.query(stored_codes), archive.info()["generation"]
        assert archive.unchecked()["images"] == len(archive) and archive.verify() == []
        report = archive.upgrade()
        assert (report.former, report.format) == (1, 3) and report.sealed["images"] == report.sealed["links"]
        assert report.fit.images == report.fit.recoded == len(archive)
        assert archive.unchecked() == {} and archive.verify() == []
    facts = json.loads((folder / "archive.json").read_text())
    assert facts["format"] == 3 and not (folder / "spool").exists()
    with Archive.open(folder) as archive:
        assert facts["id"] == archive.search(QUERY, k=4).receipt["archive"]
        assert [(hit.id, hit.distance) for hit in archive.search(QUERY, k=4, codes="trained")] == hits
        repeated = archive.repeat(then["receipt"])
        assert [(hit.id, hit.distance) for hit in repeated] == hits and not repeated.warnings
        assert archive._store.query(stored_codes) == codes
        assert archive.info()["generation"] == generation
        assert not archive.upgrade().changed


def test_an_archive_of_format_1_needs_no_index_and_no_write_to_be_searched(stored):
    folder, then = stored("format-1")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder / "index")
    with Archive.open(folder) as archive:
        assert [[hit.id, hit.distance] for hit in archive.search(QUERY, k=4)] == then["hits"]
    assert {path: data for path, data in before.items() if path.exists() and path.read_bytes() != data} == {}
