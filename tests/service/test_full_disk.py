"""A full disk: what needs to be stored is refused with 507, what was acknowledged stays."""

import subprocess
from contextlib import contextmanager

import pytest
from PIL import Image

from medlike import Archive
from medlike.errors import ArchiveFull
from medlike.service.writer import Writer

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path):
    """A file system of 64 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "medlike-test", place]).returncode:
        pytest.fail("a small file system cannot be mounted: run the tests as root, or leave out -m slow")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def archive(disk, tiny_regional_bundle, encoder):
    """An empty archive on the small disk."""
    with Archive.create(disk / "archive", tiny_regional_bundle, encoder=encoder) as made:
        yield made


@pytest.fixture
def images(tmp_path, tiny_pictures):
    """Four files of images."""
    files = [tmp_path / f"{number}.png" for number in range(4)]
    for file, picture in zip(files, tiny_pictures(4, seed=6), strict=True):
        Image.fromarray(picture).save(file)
    return files


@contextmanager
def full(disk):
    """Leave no room on the disk until the block ends."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("before", [True, False], ids=["files there", "files missing"])
def test_what_cannot_be_stored_is_refused_and_what_was_stored_stays(
    served, archive, disk, images, before
):
    """`before`: jobs, receipts and marks were stored before, so that their files are there."""
    archive.add(images, "copy", fit="never")
    first, second, third, fourth = archive.ids()
    receipt = served.post("search", json={"id": first}).json()["receipt"]
    requests = (
        ("POST", "jobs", {"kind": "verify"}),
        ("DELETE", f"images/{third}", None),
        ("POST", "removals", {"ids": [fourth]}),
        ("POST", "receipts", receipt),
        ("PUT", f"marks/{first}/{second}", {"mark": "like"}),
    )
    if before:
        job = served.post("jobs", json={"kind": "compact"}).json()["id"]
        kept = served.post("receipts", json=receipt).json()["id"]
        assert served.put(f"marks/{second}/{first}", json={"mark": "unlike"}).status_code == 200
    with full(disk):
        for method, path, body in requests:
            response = served.request(method, path, json=body)
            assert response.status_code == 507, (method, path, response.text)
            assert response.json()["title"] == "The disk is full" and "free space" in response.json()["detail"]
    assert len(archive) == 4 and served.get("marks").json()["total"] == served.get("jobs").json()["total"] == before
    if before:
        assert served.get(f"jobs/{job}").json()["state"] == "queued"
        assert served.get(f"receipts/{kept}/receipt").json()["receipt"] == receipt
        assert served.get(f"marks/{second}").json()["unlike"] == [first]
    writer = Writer(archive)
    try:
        stored = [served.request(method, path, json=body).status_code for method, path, body in requests[3:]]
        assert stored == [201, 200]
        while writer.step():
            pass
    finally:
        writer.close()
    assert archive.verify() == [] and len(archive) == 4


def test_a_ticket_says_why_it_waits_for_a_full_disk(served, archive, disk, images):
    writer = Writer(archive)
    (ticket,) = served.post("images", content=images[0].read_bytes()).json()["tickets"]
    assert "waiting" not in served.get(f"tickets/{ticket}").json()
    with full(disk), pytest.raises(ArchiveFull):
        writer.step()
    for path in (f"tickets/{ticket}", "archive"):
        assert "is full: free space" in served.get(path).json()["waiting"]
    assert served.get("ready").json() == {"status": "ready", "writing": False}
    writer.step()
    assert served.get(f"tickets/{ticket}").json()["state"] == "indexed"
    assert served.get("ready").json() == {"status": "ready", "writing": True}
    assert "waiting" not in served.get("archive").json()
    writer.close()
