"""Taking images in: counts, duplicates, replacement, bad files, resuming, bounded memory."""

import csv
import tracemalloc
from statistics import median

import numpy as np
import pytest
from PIL import Image

from medlike import Archive, imaging
from medlike.archive.intake import ingest
from medlike.errors import NothingAdded, QueryError


def manifest(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_stores_what_the_bundle_says(archive, pictures, encoder):
    folder = pictures(5)
    report = archive.add([folder])
    assert (report.added, report.replaced, report.skipped, report.duplicates) == (5, 0, [], [])
    assert set(report.seconds) == {"read", "encode", "commit", "index", "total"}
    for path in folder.iterdir():
        image = next(imaging.read(path))
        row = archive._store.find(archive._bundles.current().identity.public_id(None, 0, image.digest))
        stored = archive._store.encoding(row.row, archive._folder.bundle.digest)
        expected = encoder.encode([imaging.prepare(image)])[0]
        assert stored.code == expected.code.tobytes() and stored.content == expected.content.tobytes()
        assert stored.outlier_p == pytest.approx(expected.outlier.p_value)
        assert row.predicted_modality == expected.modality
        assert archive.source(row.id)["path"] == str(path)


def test_a_second_run_reads_nothing_again(archive, pictures, monkeypatch):
    folder = pictures(6)
    archive.add(folder)
    monkeypatch.setattr(imaging, "load", None)  # would fail if it were called
    report = archive.add(folder)
    assert (report.added, report.unchanged) == (0, 6) and archive._store.generation() == 1


def test_a_changed_file_is_read_again(archive, pictures):
    folder = pictures(3)
    archive.add(folder)
    Image.fromarray(np.full((20, 20), 77, np.uint8)).save(folder / "0001.png")
    report = archive.add(folder)
    # Without a SOP instance UID other pixels are another image.
    assert (report.added, report.unchanged) == (1, 2)


def test_equal_pixels_are_a_duplicate_of_the_first(archive, pictures, tmp_path):
    folder = pictures(2)
    (tmp_path / "copy.png").write_bytes((folder / "0000.png").read_bytes())
    report = archive.add([folder, tmp_path / "copy.png"])
    first = archive._bundles.current().identity.public_id(None, 0, next(imaging.read(folder / "0000.png")).digest)
    assert report.added == 2 and report.duplicates == [(str(tmp_path / "copy.png"), first)]


def test_a_sop_instance_is_replaced_not_doubled(archive, scan, tmp_path):
    path = scan("a.dcm", seed=1, SOPInstanceUID="1.2.3")
    assert archive.add(path).added == 1
    first = archive._store.images([1])[1]
    scan("a.dcm", seed=2, SOPInstanceUID="1.2.3", **_same_study(path))
    report = archive.add(path)
    assert (report.added, report.replaced, len(archive)) == (0, 1, 1)
    now = archive._store.find(first.id)
    assert now.pixels != first.pixels
    # Two files of one instance in one run: the second is judged against the first.
    one = scan("b.dcm", seed=3, SOPInstanceUID="1.2.4")
    two = scan("c.dcm", seed=4, SOPInstanceUID="1.2.4", **_same_study(one))
    report = archive.add([one, two])
    assert (report.added, report.replaced, len(archive)) == (1, 1, 2)
    report = archive.add([scan("d.dcm", seed=4, SOPInstanceUID="1.2.4", **_same_study(two))])
    assert [path for path, _ in report.duplicates] == [str(tmp_path / "d.dcm")]


def _same_study(path):
    import pydicom

    data = pydicom.dcmread(path)
    return {name: data[name].value for name in ("StudyInstanceUID", "SeriesInstanceUID")}


def test_a_manifest_adds_labels_to_stored_images(archive, pictures, tmp_path):
    folder = pictures(3)
    archive.add(folder)
    rows = [{"path": f"pictures/{i:04}.png", "label": "CT_head", "modality": "CT"} for i in range(3)]
    report = archive.add(manifest(tmp_path / "manifest.csv", rows))
    assert (report.added, report.replaced) == (0, 3)
    assert {image.label for image in archive._store.images([4, 5, 6]).values()} == {"CT_head"}
    assert archive.add(tmp_path / "manifest.csv").unchanged == 3


def test_a_manifest_that_names_a_file_twice_settles(archive, pictures):
    folder = pictures(2)
    rows = [{"path": "0000.png", "label": label} for label in ("a", "b")] + [{"path": "0001.png", "label": "c"}]
    first, again = (archive.add(manifest(folder / "m.csv", rows)) for _ in range(2))
    assert (first.added, again.added, again.replaced, again.unchanged) == (2, 0, 0, 2)
    assert again.generation == first.generation and len(again.skipped) == 1
    assert {row.metadata["label"] for row in archive._store.images([1, 2]).values()} == {"b", "c"}


def test_bad_files_never_stop_a_batch(archive, pictures, tmp_path):
    folder = pictures(4)
    (folder / "0000b.png").write_bytes(b"")
    (folder / "0001b.dcm").write_text("not DICOM at all")
    (folder / "0002b.png").write_bytes((folder / "0002.png").read_bytes()[:60])
    report = archive.add([folder, tmp_path / "nowhere.png"])
    assert report.added == 4
    assert sorted(path.rpartition("/")[2] for path, _ in report.skipped) == [
        "0000b.png", "0001b.dcm", "0002b.png", "nowhere.png",
    ]  # fmt: skip
    assert all(reason and "Traceback" not in reason for _, reason in report.skipped)
    assert archive.verify() == []


def test_where_nothing_at_all_was_added_the_reasons_are_raised(archive, pictures, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.png").write_bytes(b"nothing")
    said = r"^nothing was added, 7 files .*0\.png: .*4\.png: .*; and 2 more$"
    with pytest.raises(NothingAdded, match=said) as refused:
        archive.add(folder)
    assert len(refused.value.report.skipped) == 7 and len(archive) == 0
    # One image that is stored, from before or as another file, is enough for a report.
    one = pictures(1)
    assert len(archive.add([folder, one]).skipped) == 7
    assert archive.add([folder, one]).unchanged == 1
    (tmp_path / "again.png").write_bytes((one / "0000.png").read_bytes())
    assert len(archive.add([folder, tmp_path / "again.png"]).duplicates) == 1
    # And nothing to add is no fault.
    (tmp_path / "empty").mkdir()
    assert archive.add(tmp_path / "empty").files == 0


def test_an_archive_below_its_sources_does_not_take_in_its_own_previews(tmp_path, tiny_bundle, encoder, pictures):
    with Archive.create(pictures(3) / "archive", tiny_bundle, encoder=encoder) as archive:
        archive.add(tmp_path / "pictures")
        again = archive.add(tmp_path / "pictures")
        assert (len(archive), again.files, again.unchanged) == (3, 3, 3)
        assert again.archives == [str(archive.path)] and not again.skipped
        with pytest.raises(NothingAdded) as refused:
            archive.add(archive.path)
        assert refused.value.report.skipped[0][0] == str(archive.path)


def test_names_in_other_scripts(archive, pictures):
    folder = pictures(3, name="снимки 画像 صور")
    (folder / "0000.png").rename(folder / "šířka\u202e写真.png")
    assert archive.add(folder).added == 3
    assert {archive.source(image.id)["path"] for image in archive._store.images([1, 2, 3]).values()} == {
        str(path) for path in folder.iterdir()
    }


def test_pixels_are_kept_lossless_and_bare(archive, scan):
    path = scan("a.dcm", PatientName="Mustermann^Erika")
    archive.add(path, pixels="copy")
    row = archive._store.images([1])[1]
    kept = archive._pixels.read(row.pixels)
    assert (kept == next(imaging.read(path)).pixels).all() and kept.dtype == np.int16
    data = archive._pixels.path(row.pixels).read_bytes()
    assert b"Mustermann" not in data and row.preview is None


def test_copies_can_be_asked_for_later(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    assert archive.add(folder, pixels="copy").replaced == 2
    assert archive.add(folder, pixels="reference").unchanged == 2  # nothing kept is given up
    assert archive.verify() == []


def test_frames_are_images_of_their_own(archive, tmp_path):
    stack = [Image.fromarray(np.full((16, 16), 10 * i, np.uint8)) for i in range(5)]
    stack[0].save(tmp_path / "stack.tif", save_all=True, append_images=stack[1:])
    assert archive.add(tmp_path / "stack.tif").added == 1
    report = archive.add(tmp_path / "stack.tif", frames="all")
    assert (report.added, report.unchanged) == (4, 1)
    assert sorted(image.frame for image in archive._store.images(range(1, 9)).values()) == [0, 1, 2, 3, 4]


def test_an_interrupt_keeps_whole_groups_and_resumes(archive, pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 4)
    monkeypatch.setattr(ingest, "BATCH", 2)
    folder = pictures(12)

    def interrupt(report):
        if report.added == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.add(folder, progress=interrupt)
    assert len(archive) == 8
    report = archive.add(folder)
    assert (report.added, report.unchanged) == (4, 8) and archive.verify() == []


def test_groups_are_commits(archive, pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 4)
    monkeypatch.setattr(ingest, "BATCH", 2)
    told = []
    archive.add(pictures(10), progress=lambda report: told.append((report.generation, report.added)))
    assert told == [(1, 4), (2, 8), (3, 10)]


def test_a_slow_group_is_committed_after_a_second(archive, pictures, monkeypatch):
    monkeypatch.setattr(ingest, "PATIENCE", 0.0)
    archive.add(pictures(3))
    assert archive._store.generation() == 3


def test_a_wrong_setting_names_the_right_ones(archive, pictures):
    with pytest.raises(QueryError, match="'copy' or 'reference'"):
        archive.add(pictures(1), pixels="link")


def test_memory_does_not_grow_with_the_number_of_files(archive, pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 16)
    folder = pictures(200)
    peaks = []

    def watch(report):
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.reset_peak()

    archive.add(folder / "0000.png")  # imports, caches
    tracemalloc.start()
    try:
        archive.add(folder, progress=watch)
    finally:
        tracemalloc.stop()
    # Medians: what grows with the files is in every later peak, while one group may wait for a busy processor.
    early, late = median(peaks[1:6]), median(peaks[-5:])
    assert len(peaks) >= 10 and late < early * 1.3, peaks


def test_files_are_read_again_where_reading_has_changed(archive, pictures, monkeypatch):
    folder = pictures(3)
    archive.add(folder)
    reads = []
    load = imaging.load
    monkeypatch.setattr(imaging, "load", lambda *given: reads.append(given[0].path) or load(*given))
    assert archive.add(folder).unchanged == 3 and reads == []
    monkeypatch.setattr(ingest, "READER", ingest.READER + 1)
    assert archive.add(folder).unchanged == 3 and len(reads) == 3
