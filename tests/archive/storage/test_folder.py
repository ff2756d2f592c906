"""What an archive's folder says is never trusted with a path, a type or a size: a restored backup may be anybody's."""

import json
import os
import resource
import subprocess
import sys

import pytest

from medlike import Archive
from medlike import files as durable
from medlike.errors import ArchiveError, ArchiveFull, InputError

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


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"identifiers": {"patient_id": 12345}}, r"identifiers\['patient_id'\] is 12345 \(int\): give a text"),
        ({"metadata": {"age": 10**400}}, r"metadata\['age'\] is a whole number of 1329 bits"),
        ({"metadata": {"age": float("nan")}}, "finite number"),
        ({"metadata": {"age": float("inf")}}, "finite number"),
        ({"metadata": {"a": {"b": 1}}}, "give a text"),
        ({"metadata": {"a": [[1]]}}, "give a text"),
        ({"metadata": {7: "a"}}, "printable name"),
        ({"metadata": {"": "a"}}, "printable name"),
        ({"metadata": {"a\x1b[31m": "a"}}, "printable name"),
        ({"metadata": {"k" * 65: "a"}}, "printable name"),
        ({"metadata": {str(n): 1 for n in range(300)}}, "300 entries, at most 256"),
        ({"metadata": {"a": "x" * 70_000}}, "70000 characters"),
        ({"metadata": "abc"}, "give a mapping"),
        ({"texts": {"report": 1}}, "give a text"),
        ({"texts": {"report": "\ud800"}}, "half of a surrogate pair"),
        ({"texts": {"report": "x" * (1 << 21)}}, "characters"),
        ({"name": 7}, "file name"),
        ({"name": "x" * 5000}, "file name"),
    ],
)
def test_facts_are_checked_when_they_arrive(archive, picture, facts, said):
    with pytest.raises(InputError, match=said):
        archive.receive(picture, **facts)
    assert list(archive._folder.spool.iterdir()) == []


def test_ordinary_facts_arrive_as_they_are(archive, picture):
    metadata = {"age": 45, "label": "Lunge links", "ratio": -0.5, "flag": True, "none": None, "tags": ["a", "b"]}
    archive.receive(picture, "bad\udcff.png", metadata, {"report": "klar 𝔸"}, {"patient_id": "12345"})
    (entry,) = archive._spool.entries()
    assert entry.metadata == metadata and entry.name == "bad\\udcff.png" and entry.identifiers["patient_id"] == "12345"
    assert archive.drain().added == 1


@pytest.mark.parametrize("part", ["private", "spool", "pixels", "index", "store.sqlite", "archive.json", "private/key"])
def test_no_part_of_an_archive_may_be_a_link(archive, tmp_path, part):
    archive.close()
    folder, elsewhere = archive.path, tmp_path / "elsewhere"
    (folder / part).rename(elsewhere)
    (folder / part).symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match="is a symbolic link, which an archive never holds"):
        Archive.open(folder)


def test_a_pipe_for_a_lock_is_refused_and_not_waited_for(archive):
    archive.close()
    (archive.path / "writer.lock").unlink(missing_ok=True)
    os.mkfifo(archive.path / "writer.lock")
    with pytest.raises(ArchiveError, match="no regular file"):
        Archive.open(archive.path)


@pytest.mark.parametrize("digest", ["../../../victim", "/etc/hostname", "x", "A" * 64])
def test_a_digest_in_the_database_is_no_path(archive, picture, digest, tmp_path):
    archive.receive(picture, "a.png")
    archive.drain()
    archive._store.connection.execute("UPDATE images SET pixels = ?, preview = ?", (digest, digest))
    assert sum("no SHA-256" in str(problem) for problem in archive.verify()) == 2
    with pytest.raises(ArchiveError, match="no SHA-256"):
        archive.backup(tmp_path / "backup")


def test_a_folder_of_the_index_behind_a_link_is_not_emptied(archive, tmp_path, picture):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    (place,) = archive._folder.index.iterdir()
    elsewhere = tmp_path / "elsewhere"
    place.rename(elsewhere)
    (elsewhere / "mine").mkdir()
    place.symlink_to(elsewhere)
    with pytest.raises(ArchiveError, match="symbolic link"):
        archive.reindex()
    assert (elsewhere / "mine").is_dir() and (elsewhere / "index.json").is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"segments": ["../../pixels"]}, {"segments": [".."]}, {"segments": [7]}, {"segments": "ab"},
        {"generation": float("inf")}, {"segments": {"a": 1}},
    ],
)  # fmt: skip
def test_an_index_that_names_other_folders_is_built_anew(archive, picture, encoder, change):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    (place,) = archive._folder.index.iterdir()
    facts = json.loads((place / "index.json").read_text())
    (place / "index.json").write_text(json.dumps(facts | change))
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.verify() == []


@pytest.mark.parametrize("kind", ["|O", "<f8", "<i4"])
@pytest.mark.parametrize("name", ["rows", "modality"])
def test_a_segment_states_no_other_types_than_the_layout(archive, picture, encoder, kind, name):
    archive.receive(picture, "a.png")
    archive.drain()
    archive.reindex()
    file = next(archive._folder.index.glob("*/*/segment.json"))
    facts = json.loads(file.read_text())
    facts["arrays"][name][0] = kind
    file.write_text(json.dumps(facts))
    (file.parent / f"{name}.bin").write_bytes(b"\xee" * 8)
    archive.close()
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.verify() == []


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 10**400}, {"bits": "64"}, {"bits": 7.5}, {"bits": 4096}, {"digest": "../../x"}, {"name": 7},
        {"name": "a\0b"}, {"content_dim": True}, {"extra": 1},
    ],
)  # fmt: skip
def test_archive_json_is_checked(archive, change):
    archive.close()
    file = archive.path / "archive.json"
    facts = json.loads(file.read_text())
    facts["bundle"] |= change
    file.write_text(json.dumps(facts))
    with pytest.raises(ArchiveError, match="damaged"):
        Archive.open(archive.path)


def test_a_full_disk_does_not_keep_the_lock(archive, picture):
    """The limit on the size of files stands in for the disk: not a byte of the lock's own file can be written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        for _ in range(2):
            with pytest.raises(ArchiveFull, match="is full"):
                archive.remove([])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    other = f"from medlike import Archive; Archive.open({str(archive.path)!r}).remove([])"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    archive.receive(picture, "a.png")
    assert archive.drain().added == 1 and archive.verify() == []


def test_a_lock_that_cannot_be_released_cleanly_is_released(archive, monkeypatch):
    def fails(descriptor, size):
        raise OSError(28, "No space left on device")

    archive._lock.take()
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", fails)
        with pytest.raises(ArchiveFull):
            archive._lock.release(clean=True)
    assert archive._lock.state() == "died"
    archive.remove([])
    assert archive._lock.state() == "free"


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert durable.read(tmp_path / "file", 5) == b"12345"
    for name in ("link", "pipe", "."):
        with pytest.raises(ArchiveError, match="which an archive never holds"):
            durable.read(tmp_path / name)
        assert not durable.is_regular(tmp_path / name)
    with pytest.raises(ArchiveError, match="has 5 bytes, at most 4"):
        durable.read(tmp_path / "file", 4)
