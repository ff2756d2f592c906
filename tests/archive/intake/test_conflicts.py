"""Files that share the SOP instance UID of a stored image and differ from it: never a silent replacement."""

import shutil

import pydicom
import pytest

from medlike import Archive, imaging
from medlike.archive.intake import ingest
from medlike.errors import NothingAdded, QueryError

SAME = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.1", "PatientID": "P-1"}
OTHERS = {
    "patient": {"PatientID": "P-2"},
    "study": {"StudyInstanceUID": "1.9"},
    "series": {"SeriesInstanceUID": "1.2.9"},
}


@pytest.fixture
def stored(archive, scan):
    """The path and the row of a stored image."""
    path = scan("a.dcm", **SAME)
    assert archive.add(path).added == 1
    return path, archive._store.images([1])[1]


@pytest.mark.parametrize("pixels", [0, 1])
@pytest.mark.parametrize("differing", OTHERS)
def test_an_image_of_another_owner_is_kept_out_by_default(archive, scan, stored, differing, pixels):
    path, row = stored
    other = scan("b.dcm", seed=pixels, **SAME | OTHERS[differing])
    for _ in range(2):  # and not silently at the next run either
        report = archive.add(other)
        assert (report.added, report.replaced, report.unchanged, report.skipped) == (0, 0, 0, [])
        assert report.duplicates == [] and report.replacements == []
        (conflict,) = report.conflicts
        assert (conflict.path, conflict.stored, conflict.id) == (str(other), str(path), row.id)
        assert conflict.differs == ((differing, "pixels") if pixels else (differing,)) and conflict.outcome == "kept"
    assert archive._store.find(row.id) == row and archive.source(row.id)["path"] == str(path)


def test_other_pixels_replace_by_default_and_both_places_are_listed(archive, scan, stored):
    path, row = stored
    other = scan("b.dcm", seed=1, **SAME)
    report = archive.add(other)
    (conflict,) = report.conflicts
    assert (conflict.path, conflict.stored, conflict.id) == (str(other), str(path), row.id)
    assert (conflict.differs, conflict.outcome) == (("pixels",), "replaced")
    assert report.replaced == 1 and report.replacements == [(str(other), str(path), row.id)]
    assert archive._store.find(row.id).pixels == next(imaging.read(other)).digest != row.pixels
    # The file itself overwritten is no other case.
    scan("b.dcm", seed=2, **SAME)
    again = archive.add(other)
    assert [(each.path, each.stored) for each in again.conflicts] == [(str(other), str(other))]


@pytest.mark.parametrize("other", [SAME, SAME | OTHERS["patient"]], ids=["pixels", "patient"])
@pytest.mark.parametrize("on_conflict", ["keep", "replace", "refuse"])
def test_the_user_decides(archive, scan, stored, on_conflict, other):
    path, row = stored
    file = scan("b.dcm", seed=1, **other)
    try:
        report = archive.add(file, on_conflict=on_conflict)
    except NothingAdded as error:  # where the only file is refused
        report = error.report
    outcome = {"keep": "kept", "replace": "replaced", "refuse": "refused"}[on_conflict]
    assert [conflict.outcome for conflict in report.conflicts] == [outcome]
    replaced = on_conflict == "replace"
    assert report.replaced == replaced and (archive._store.find(row.id).pixels != row.pixels) == replaced
    reasons = [reason for at, reason in report.skipped if at == str(file)]
    assert len(reasons) == (on_conflict == "refuse") and all(str(path) in reason for reason in reasons)


def test_two_files_of_one_run_are_in_conflict_too(archive, scan):
    first, second = scan("a.dcm", **SAME), scan("b.dcm", **SAME | OTHERS["patient"])
    report = archive.add([first, second])
    assert report.added == 1 and [(each.path, each.stored) for each in report.conflicts] == [(str(second), str(first))]


def test_what_is_not_stated_is_no_difference(archive, scan, stored):
    other = scan("b.dcm", **SAME | {"PatientID": ""})
    assert archive.add(other).conflicts == []


def test_the_same_file_read_by_other_rules_is_no_conflict(archive, stored, monkeypatch):
    path, row = stored
    load = imaging.load

    def brighter(*given):
        for image in load(*given):
            yield type(image)(**vars(image) | {"pixels": image.pixels + 1})

    monkeypatch.setattr(imaging, "load", brighter)
    monkeypatch.setattr(ingest, "READER", ingest.READER + 1)
    report = archive.add(path)
    assert report.conflicts == [] and report.replacements == [(str(path), str(path), row.id)]


def test_an_unknown_word_names_the_known_ones(archive, scan):
    with pytest.raises(QueryError, match="keep, replace, refuse"):
        archive.add(scan("a.dcm"), on_conflict="ask")


@pytest.mark.parametrize("on_conflict", [None, "keep", "refuse"])
def test_a_received_image_of_another_owner_is_set_aside(archive, scan, stored, on_conflict):
    path, row = stored
    ticket = archive.receive(scan("b.dcm", seed=1, **SAME | OTHERS["study"]).read_bytes(), "sent.dcm")
    report = archive.drain(on_conflict=on_conflict)
    (conflict,) = report.conflicts
    assert (conflict.path, conflict.stored, conflict.outcome) == ("sent.dcm", str(path), "refused")
    assert archive._store.find(row.id) == row
    status = archive.status(ticket)
    assert status.state == "refused" and "another study" in status.reason and str(path) in status.reason


@pytest.mark.parametrize("write", ["drain", "add"])
def test_a_received_image_with_other_pixels_replaces_and_is_listed(archive, scan, stored, pictures, write):
    path, row = stored
    ticket = archive.receive(scan("b.dcm", seed=1, **SAME).read_bytes(), "sent.dcm")
    report = archive.drain() if write == "drain" else archive.add(pictures(1))
    (conflict,) = report.conflicts
    assert (conflict.path, conflict.stored, conflict.outcome) == ("sent.dcm", str(path), "replaced")
    assert archive.status(ticket).state == "indexed" and archive._store.find(row.id).pixels != row.pixels
    if write == "drain":
        assert report.replacements == [("sent.dcm", str(path), row.id)]


def test_writes_without_such_a_list_replace_no_received_conflict(archive, scan, stored):
    ticket = archive.receive(scan("b.dcm", seed=1, **SAME).read_bytes(), "sent.dcm")
    archive.reindex()
    assert archive.status(ticket).state == "refused" and archive._store.find(stored[1].id) == stored[1]


def test_unchanged_counts_images_not_files(archive, pictures):
    folder = pictures(2)
    shutil.copy(folder / "0000.png", folder / "copy.png")
    assert len(archive.add(folder).duplicates) == 1
    assert archive.add(folder).unchanged == 2


def test_replaced_metadata_name_both_files(archive, scan, stored):
    path, row = stored
    data = pydicom.dcmread(path)
    data.Manufacturer = "Other"
    data.save_as(other := path.with_name("b.dcm"))
    report = archive.add(other)
    assert report.replacements == [(str(other), str(path), row.id)] and report.conflicts == []


@pytest.mark.parametrize("pixels", ["reference", "copy"])
def test_indexing_after_a_restore_brings_the_sources_back(archive, scan, pictures, tmp_path, encoder, pixels):
    folder = pictures(2)
    scan("pictures/scan.dcm")
    archive.add(folder, pixels=pixels)
    sources = {id: archive.source(id) for id in archive.ids()}
    archive.backup(tmp_path / "backup", with_id_key=True)
    with Archive.restore(tmp_path / "backup", tmp_path / "restored", encoder=encoder) as restored:
        generation = restored.info()["generation"]
        assert restored.sources(restored.ids()) == {}
        report = restored.add(folder, pixels=pixels)
        assert (report.added, report.replaced, report.unchanged, report.relinked) == (0, 0, 3, 3)
        assert restored.sources(restored.ids()) == sources and restored.verify() == []
        assert restored.info()["generation"] == generation
        again = restored.add(folder, pixels=pixels)
        assert (again.unchanged, again.relinked) == (3, 0)


def test_a_lost_link_of_a_known_file_comes_back(archive, pictures):
    folder = pictures(2)
    archive.add(folder)
    (first, _), sources = archive.ids(), archive.sources(archive.ids())
    archive._links.query("DELETE FROM links WHERE id = ?", (first,))
    report = archive.add(folder)
    assert (report.unchanged, report.relinked) == (2, 1) and archive.sources(archive.ids()) == sources


@pytest.mark.parametrize("pixels", ["reference", "copy"])
def test_a_file_that_has_moved_is_read_from_its_new_place(archive, scan, pictures, tmp_path, pixels):
    folder = pictures(2)
    scan("pictures/scan.dcm")
    archive.add(folder, pixels=pixels)
    sources, generation = archive.sources(archive.ids()), archive.generation
    folder.rename(tmp_path / "moved")
    report = archive.add(tmp_path / "moved", pixels=pixels)
    assert archive.generation == generation and report.added == 0
    moved = archive.sources(archive.ids())
    if pixels == "copy":  # the archive needs no file
        assert report.relinked == 0 and len(report.duplicates) == 3 and moved == sources
        return
    assert (report.unchanged, report.relinked, report.duplicates) == (3, 3, [])
    assert {id: source["path"] for id, source in moved.items()} == {
        id: source["path"].replace("/pictures/", "/moved/") for id, source in sources.items()
    }
    assert all(archive.image(id) is not None for id in archive.ids()) and archive.verify() == []
    # Where the stored place still has a file, an equal one elsewhere is a duplicate.
    (tmp_path / "moved" / "copies").mkdir()
    for file in list((tmp_path / "moved").glob("*.png")):
        (tmp_path / "moved" / "copies" / file.name).write_bytes(file.read_bytes())
    assert len(archive.add(tmp_path / "moved" / "copies", pixels=pixels).duplicates) == 2


def test_a_received_file_does_not_take_the_place_of_one_that_is_gone(archive, pictures):
    folder = pictures(1)
    archive.add(folder)
    sources, (file,) = archive.sources(archive.ids()), list(folder.iterdir())
    archive.receive(file.read_bytes())
    file.unlink()
    report = archive.drain()
    assert report.relinked == 0 and len(report.duplicates) == 1 and archive.sources(archive.ids()) == sources
