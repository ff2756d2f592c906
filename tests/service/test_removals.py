"""Removing images through the writer."""

import threading

import pytest
from PIL import Image

from medlike.service.routes import removals as routes
from medlike.service.writer import Writer


@pytest.fixture
def writer(archive, tmp_path, tiny_pictures):
    """A writer at work on an archive of six images."""
    for number, picture in enumerate(tiny_pictures(6, seed=6)):
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
    archive.add(sorted(tmp_path.glob("*.png")), fit="never")
    made, stop = Writer(archive), threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    yield made
    stop.set()
    thread.join()
    made.close()


def test_an_image_is_removed_when_the_answer_comes(served, archive, writer):
    first, second, *_ = archive.ids()
    response = served.delete(f"images/{first}")
    assert response.status_code == 200 and response.json()["removed"] == 1
    assert first not in archive.ids() and response.json()["generation"] == archive.generation
    assert served.delete(f"images/{second}", params={"erase": True}).json()["erased"] == 1
    assert archive.verify() == []


def test_an_unknown_image_is_not_found(served, writer):
    for id in ("0" * 32, "x", "0" * 31 + "G"):
        response = served.delete(f"images/{id}")
        assert response.status_code == 404 and id in response.json()["detail"]


def test_several_are_removed_in_one_generation(served, archive, writer):
    before = archive.generation
    ids = archive.ids()[:3]
    report = served.post("removals", json={"ids": [*ids, "0" * 32]}).json()
    assert report["removed"] == 3 and report["unknown"] == ["0" * 32] and archive.generation == before + 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "ids is not a list of public ids"),
        ({"ids": ["x"]}, "ids is not a list of public ids"),
        ({"ids": ["0" * 32], "erase": 1}, "erase is 1"),
        ({"ids": ["0" * 32], "when": 1}, "it takes ids and erase"),
        ([], "send a JSON object"),
    ],
)
def test_a_removal_that_makes_no_sense_is_refused(served, body, says):
    response = served.post("removals", json=body)
    assert response.status_code == 422 and says in response.json()["detail"]


def test_an_erasure_leaves_no_trace_in_the_service(served, archive, writer, tmp_path):
    """Jobs and removals that named the image, or its file, forget it."""
    id = archive.ids()[0]
    path = archive.source(id)["path"]
    served.post("jobs", json={"kind": "index", "sources": [path], "pixels": "copy"})
    assert "data: " in served.get("jobs/1/events").text  # which end with the job
    assert served.delete(f"images/{id}", params={"erase": True}).json()["erased"] == 2
    for file in (archive.path / "private" / "service").iterdir():
        if file.is_file():
            assert id.encode() not in file.read_bytes() and path.encode() not in file.read_bytes()


def test_a_removal_outlives_the_wait(served, archive, tmp_path, tiny_pictures, monkeypatch):
    Image.fromarray(tiny_pictures(1)[0]).save(tmp_path / "a.png")
    archive.add(tmp_path / "a.png")
    monkeypatch.setattr(routes, "LONGEST_WAIT", 0.0)
    response = served.delete(f"images/{archive.ids()[0]}")
    assert response.status_code == 202 and len(archive) == 1
    later = Writer(archive)
    later.step()
    later.close()
    assert len(archive) == 0
