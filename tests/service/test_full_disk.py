"""A full disk: what needs to be stored is refused with 507, what was acknowledged stays."""

import resource
from contextlib import contextmanager

import pytest
from PIL import Image

from medlike.service.writer import Writer


@contextmanager
def full_disk():
    """Files cannot grow beyond 500 bytes for a while, which the system reports as it does a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("before", [True, False], ids=["files there", "files missing"])
def test_what_cannot_be_stored_is_refused_and_what_was_stored_stays(
    served, archive, tmp_path, tiny_pictures, before
):
    """`before`: jobs, receipts and marks were stored before, so that their files are there."""
    for number, picture in enumerate(tiny_pictures(4, seed=6)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    archive.add(sorted(tmp_path.glob("*.png")), "copy", fit="never")
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
    with full_disk():
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
        assert [served.request(method, path, json=body).status_code for method, path, body in requests[3:]] == [201, 200]
        while writer.step():
            pass
    finally:
        writer.close()
    assert archive.verify() == [] and len(archive) == 4
