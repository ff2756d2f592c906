"""Making and opening archives: what is refused, and what is said then."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from medlike import Archive, Bundle, Query
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
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 4}))
    with pytest.raises(ArchiveError, match="format 4; this medlike reads up to 3: install a newer medlike"):
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
