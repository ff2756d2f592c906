"""Received files: acknowledged once they are safe, committed once, refused with a reason, never dropped."""

import json
import os
import time

import pytest

from medlike import files as durable

TICKET = f"{1:020d}-{'0' * 16}"
FACTS = {"name": "a.png", "metadata": {}, "texts": {}, "identifiers": {}}


@pytest.fixture
def picture(pictures):
    return (pictures(1) / "0000.png").read_bytes()


def put_sidecar(archive, content, ticket=TICKET, data=None):
    """A sidecar as it lies in a backup from elsewhere."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (archive._folder.spool / f"{ticket}.json").write_bytes(text)
    if data is not None:
        (archive._folder.spool / f"{ticket}.png").write_bytes(data)


BAD = {
    "a number for an identifier": {**FACTS, "identifiers": {"patient_id": 12345}},
    "an age of 400 digits": {**FACTS, "metadata": {"age": 10**400}},
    "an age of 39 digits": {**FACTS, "metadata": {"age": 10**39}},
    "metadata that is a list": {**FACTS, "metadata": [1]},
    "metadata in metadata": {**FACTS, "metadata": {"a": {"b": 1}}},
    "a text that is none": {**FACTS, "texts": {"report": None}},
    "no metadata": {"name": "a"},
    "a name that is none": {**FACTS, "name": 7},
}


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

    spool = Spool(lambda: archive._folder.spool)
    spool.put((pictures(1) / "0000.png").read_bytes(), "a.png")
    old, young = spool.folder / "1-old.png", spool.folder / ".2-young.png.partial"
    old.write_bytes(b"unacknowledged")
    young.write_bytes(b"under way")
    os.utime(old, (time.time() - 7200,) * 2)
    spool.sweep()
    assert not old.exists() and young.exists() and len(list(spool.entries())) == 1


@pytest.mark.parametrize("kind", ["parent", "absolute", "another", "folder", "null", "number", "sidecar", "long"])
def test_a_sidecar_cannot_name_a_file_outside_of_its_own(archive, tmp_path, picture, kind):
    victim = tmp_path / "victim.png"
    victim.write_bytes(picture)
    own = f"{TICKET}.png"
    name = {
        "parent": "../../victim.png", "absolute": str(victim), "another": "other.png", "folder": f"x/{own}",
        "null": f"{TICKET}.p\0g", "number": 7, "sidecar": f"{TICKET}.json", "long": TICKET + "." + "a" * 300,
    }[kind]  # fmt: skip
    put_sidecar(archive, {"file": name, **FACTS}, data=picture)
    archive.receive(picture, "good.png")
    assert any("names the file" in str(problem) for problem in archive.verify())
    report = archive.drain()
    assert report.added == 1 and report.skipped[0][0] == TICKET and "names the file" in report.skipped[0][1]
    assert victim.read_bytes() == picture
    (refused,) = archive._spool.refused()
    assert refused.path.read_bytes() == picture and "names the file" in refused.reason
    assert archive.drain().skipped == [] and archive.verify() == []


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sidecar_is_set_aside_and_never_blocks_the_rest(archive, picture, kind):
    put_sidecar(archive, {"file": f"{TICKET}.png", **BAD[kind]}, data=picture)
    archive.receive(picture, "good.png")
    assert archive.drain().added == 1
    (refused,) = archive.info()["refused"]
    assert refused["name"] == TICKET and "damaged" in refused["reason"]
    kept = archive._folder.spool / "refused" / f"{TICKET}.damaged"
    assert json.loads(kept.read_bytes()) == {"file": f"{TICKET}.png", **BAD[kind]}
    archive.remove([])
    assert archive.verify() == []


@pytest.mark.parametrize("content", [b"", b"[" * 5000, b"null", b'{"file": NaN}', b"\xff\xfe", b"9" * 5000])
def test_a_sidecar_that_is_no_json_is_set_aside_as_it_is(archive, content):
    put_sidecar(archive, content)
    archive.drain()
    assert (archive._folder.spool / "refused" / f"{TICKET}.damaged").read_bytes() == content


def test_a_sidecar_of_any_size_is_not_read(archive):
    with (archive._folder.spool / f"{TICKET}.json").open("wb") as file:
        file.truncate(1 << 40)
    archive.drain()
    assert "at most" in archive.info()["refused"][0]["reason"]


def test_links_pipes_and_folders_in_the_spool_are_not_followed(archive, tmp_path, picture):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture)
    spool = archive._folder.spool
    tickets = [f"{number:020d}-{'0' * 16}" for number in range(6)]
    for ticket in tickets:
        put_sidecar(archive, {"file": f"{ticket}.png", **FACTS}, ticket)
    (spool / f"{tickets[0]}.png").symlink_to(secret)
    os.mkfifo(spool / f"{tickets[1]}.png")
    (spool / f"{tickets[2]}.png").mkdir()
    for number in (3, 4, 5):
        (spool / f"{tickets[number]}.json").unlink()
    (spool / f"{tickets[3]}.json").symlink_to(secret)
    os.mkfifo(spool / f"{tickets[4]}.json")
    (spool / f"{tickets[5]}.json").mkdir()
    archive.receive(picture, "good.png")
    assert archive.drain().added == 1
    assert len(archive.info()["refused"]) == 6 and secret.read_bytes() == picture
    archive.remove([archive._store.images([1])[1].id], erase=True)
    assert secret.read_bytes() == picture


def test_a_stray_name_in_the_spool_is_named_and_left_alone(archive, picture):
    stray = archive._folder.spool / "notes.json"
    stray.write_text("{}")
    archive.receive(picture, "good.png")
    assert archive.drain().added == 1 and stray.exists()
    assert any("notes.json" in str(problem) for problem in archive.verify())


def test_tickets_of_an_earlier_medlike_stay_readable_and_come_first(archive, picture):
    """They begin with a time, here one of the year 2096."""
    old = f"{4 * 10**18:020d}-{'a' * 16}"
    put_sidecar(archive, {"file": f"{old}.png", **FACTS}, old, picture)
    new = archive.receive(picture, "b.png")
    assert [entry.ticket for entry in archive._spool.entries()] == [old, new]
    assert archive.status(old).state == "received"
    archive.drain()
    assert archive.status(old).state == archive.status(new).state == "indexed"


@pytest.mark.parametrize("content", [b"", b"1", b"x" * 42, b"%020d %020d\n" % (5, 4)], ids=str)
def test_a_damaged_counter_is_replaced_by_one_above_what_waits(archive, picture, content):
    first = archive.receive(picture, "a.png")
    (archive._folder.spool / "counter").write_bytes(content)
    assert archive.receive(picture, "b.png") > first


def test_receivers_of_many_processes_draw_different_numbers(archive, picture):
    from concurrent.futures import ThreadPoolExecutor

    from medlike.archive.storage.spool import Spool

    with ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda _: Spool(lambda: archive._folder.spool).put(picture), range(40)))
    assert len({ticket[:20] for ticket in tickets}) == 40


def test_a_file_that_cannot_be_acknowledged_leaves_nothing(archive, picture, monkeypatch):
    original = durable.write

    def write(path, data, **options):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        original(path, data, **options)

    monkeypatch.setattr(durable, "write", write)
    with pytest.raises(OSError, match="No space"):
        archive.receive(picture, "a.png")
    assert [path.name for path in archive._folder.spool.iterdir()] == ["counter"]
