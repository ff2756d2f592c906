"""Received files: acknowledged once they are safe, committed once, refused with a reason, never dropped."""

import os
import time

import numpy as np

from medlike import files as durable
from medlike import imaging


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
        path = scan("a.dcm", seed=seed, SOPInstanceUID="1.2.3")
        archive.receive(path.read_bytes(), "a.dcm")
    report = archive.drain()
    assert (report.added, report.replaced) == (1, 1)
    row = archive._store.find(archive._bundles.current().identity.public_id("1.2.3", 0, ""))
    assert row.pixels == next(imaging.read(path)).digest


def test_every_other_write_takes_in_what_was_received(archive, pictures):
    folder = pictures(3)
    archive.receive((folder / "0002.png").read_bytes(), "c.png")
    digest = next(imaging.read(folder / "0002.png")).digest
    assert archive.remove(archive._bundles.current().identity.public_id(None, 0, digest)).removed == 1
    archive.receive((folder / "0001.png").read_bytes(), "b.png")
    archive.add(folder / "0000.png")
    assert len(archive) == 2


def test_unusable_files_are_set_aside_with_the_reason(archive):
    archive.receive(b"this is no image", "nonsense.dcm")
    report = archive.drain()
    assert [name for name, _ in report.skipped] == ["nonsense.dcm"] and report.added == 0
    refused = archive.info()["refused"]
    assert refused[0]["name"] == "nonsense.dcm" and "not an image" in refused[0]["reason"]
    assert next(archive._spool.refused()).path.read_bytes() == b"this is no image"
    assert archive.drain().skipped == [] and archive.verify() == []


def test_erasure_reaches_what_was_set_aside(archive, scan):
    path = scan("a.dcm", SOPInstanceUID="1.2.840.5.6")
    archive.add(path)
    truncated = path.read_bytes()[:-100]
    archive.receive(truncated, "a.dcm")
    archive.receive(b"this is no image", "b.dcm")
    archive.drain()
    assert len(list(archive._spool.refused())) == 2
    archive.remove(archive._bundles.current().identity.public_id("1.2.840.5.6", 0, ""), erase=True)
    assert [entry.name for entry in archive._spool.refused()] == ["b.dcm"]


def test_erasure_leaves_what_has_a_longer_uid(archive, scan):
    path = scan("a.dcm", SOPInstanceUID="1.2.840.5.1")
    archive.add(path)
    archive.receive(b"its own", "CT.1.2.840.5.1.dcm")
    for longer in ("1.2.840.5.10", "1.2.840.5.1.1", "9.1.2.840.5.1", "11.2.840.5.1"):
        archive.receive(b"another", "b.dcm", identifiers={"sop_uid": longer})
    archive.drain()
    archive.remove(archive._bundles.current().identity.public_id("1.2.840.5.1", 0, ""), erase=True)
    assert [entry.name for entry in archive._spool.refused()] == ["b.dcm"] * 4


def test_a_uid_in_a_big_endian_file_is_found_after_a_length_that_looks_like_a_digit(archive):
    """The byte before a value is the low byte of its length there: 48 to 57 are the digits."""
    uid = "1.2.840." + "5" * 46
    assert 48 <= len(uid) <= 57 and len(uid) % 2 == 0
    said = b"\0\x08\0\x18UI" + len(uid).to_bytes(2, "big") + uid.encode()
    archive.receive(said, "broken.dcm", identifiers={})
    archive.drain()
    assert len(list(archive._spool.refused())) == 1
    assert archive._spool.forget([uid[:-1]]) == 0 and archive._spool.forget([uid]) == 2


def test_names_cannot_leave_the_spool(archive, pictures):
    data = (pictures(1) / "0000.png").read_bytes()
    for name in ("../../evil.png", "a/b.png", "x." + "y" * 300, "\0.png", "", "a.json", "b.JSON"):
        archive.receive(data, name)
    assert all(path.parent == archive._folder.spool for path in durable.files(archive._folder.spool))
    assert archive.drain().added == 1


def test_receivers_that_died_leave_nothing_for_long(archive, pictures):
    from medlike.archive.storage.spool import Spool

    spool = Spool(archive._folder.spool)
    spool.put((pictures(1) / "0000.png").read_bytes(), "a.png")
    old, young = spool.folder / "1-old.png", spool.folder / ".2-young.png.partial"
    old.write_bytes(b"unacknowledged")
    young.write_bytes(b"under way")
    os.utime(old, (time.time() - 7200,) * 2)
    spool.sweep()
    assert not old.exists() and young.exists() and len(list(spool.entries())) == 1


def test_every_frame_of_a_received_file_is_taken(archive, tmp_path):
    from PIL import Image

    stack = [Image.fromarray(np.full((16, 16), 10 * i, np.uint8)) for i in range(4)]
    stack[0].save(tmp_path / "stack.tif", save_all=True, append_images=stack[1:])
    archive.receive((tmp_path / "stack.tif").read_bytes(), "stack.tif")
    assert archive.drain().added == 4
