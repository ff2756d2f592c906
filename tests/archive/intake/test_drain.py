"""Received files are committed once, with their facts, and their tickets tell their state."""

import numpy as np
import pytest

from medlike import imaging
from medlike.errors import InputError


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


def test_what_was_received_is_committed_with_its_facts(archive, scan):
    path = scan("a.dcm", SOPInstanceUID="1.2.3.4", PatientID="P-1")
    archive.receive(path.read_bytes(), "a.dcm", metadata={"label": "lung"}, texts={"report": "clear lungs"})
    assert len(archive) == 0 and archive.info()["received"] == 1
    assert archive.drain().added == 1
    row = archive._store.images([1])[1]
    assert row.id == archive._bundles.current().identity.public_id("1.2.3.4", 0, "") and row.kind == "copy"
    assert row.label == "lung" and archive._store.texts(row.row) == {"report": "clear lungs"}
    assert (archive._pixels.read(row.pixels) == next(imaging.read(path)).pixels).all()
    assert archive.source(row.id)["path"] is None and archive.info()["received"] == 0
    assert list(archive._folder.spool.iterdir()) == [] and archive.verify() == []


def test_the_same_file_twice_is_one_image(archive, pictures):
    data = (pictures(1) / "0000.png").read_bytes()
    assert archive.receive(data, "a.png") != archive.receive(data, "a.png")
    report = archive.drain()
    assert (report.added, report.unchanged, len(archive)) == (1, 1, 1)


def test_a_commit_that_was_not_struck_off_is_replayed_without_harm(archive, pictures, monkeypatch):
    archive.receive((pictures(1) / "0000.png").read_bytes(), "a.png")
    with monkeypatch.context() as patch:
        patch.setattr(archive._spool, "done", lambda entry: None)
        assert archive.drain().added == 1
    report = archive.drain()
    assert (report.added, report.unchanged, len(archive)) == (0, 1, 1)


def test_the_later_version_of_an_image_stays(archive, scan):
    for seed in (1, 2):
        path = scan("a.dcm", seed=seed, SOPInstanceUID="1.2.3", StudyInstanceUID="1.2", SeriesInstanceUID="1.2.1")
        archive.receive(path.read_bytes(), "a.dcm")
    report = archive.drain()
    assert (report.added, report.replaced) == (1, 1)
    row = archive._store.find(archive._bundles.current().identity.public_id("1.2.3", 0, ""))
    assert row.pixels == next(imaging.read(path)).digest


def test_every_frame_of_a_received_file_is_taken(archive, tmp_path):
    from PIL import Image

    stack = [Image.fromarray(np.full((16, 16), 10 * i, np.uint8)) for i in range(4)]
    stack[0].save(tmp_path / "stack.tif", save_all=True, append_images=stack[1:])
    archive.receive((tmp_path / "stack.tif").read_bytes(), "stack.tif")
    assert archive.drain().added == 4
