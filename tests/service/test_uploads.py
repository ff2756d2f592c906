"""Uploads: acknowledged, committed by the writer, and what their tickets say."""

import io
import json
import os
import resource
import threading
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from medlike import Archive
from medlike.archive.storage.spool import Spool
from medlike.imaging import pool
from medlike.service import writer as writers
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections
from medlike.service.limits import Limits
from medlike.service.routes import uploads
from medlike.service.writer import Writer

from .conftest import OWNER, PEER, as_owner


def png(picture):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    return data.getvalue()


@pytest.fixture
def pictures(tiny_pictures):
    """Eight files of PNG."""
    return [png(picture) for picture in tiny_pictures(8, seed=4)]


@pytest.fixture
def writer(archive):
    """A writer of `archive`, at rest: `step` lets it work."""
    made = Writer(archive)
    yield made
    made.close()


def test_an_upload_is_acknowledged_then_indexed_then_found(served, archive, writer, pictures):
    response = served.post("images", content=pictures[0], headers={"x-file-name": quote("a lung ü.png")})
    assert response.status_code == 202
    (ticket,) = response.json()["tickets"]
    assert response.headers["location"] == f"/api/v1/tickets/{ticket}"
    assert served.get(f"tickets/{ticket}").json()["state"] == "received"
    assert archive.waiting() == 1 and len(archive) == 0
    assert writer.step()
    state = served.get(f"tickets/{ticket}").json()
    assert state == {"ticket": ticket, "state": "indexed", "ids": archive.ids(), "duplicates": [], "reason": None}
    assert not writer.step()


def test_a_form_holds_several_files_and_facts_of_all(served, archive, writer, pictures):
    files = [("file", ("one.png", pictures[0])), ("file", ("two.png", pictures[1]))]
    facts = {"metadata": json.dumps({"label": "cyst"}), "texts": json.dumps({"report": "a simple cyst"})}
    tickets = served.post("images", files=files, data=facts).json()["tickets"]
    writer.step()
    ids = [served.get(f"tickets/{ticket}").json()["ids"][0] for ticket in tickets]
    assert ids == archive.ids() and len(ids) == 2
    assert archive.browse({"label": "cyst"}).total == 2


def test_a_duplicate_says_of_which_image(served, archive, writer, pictures):
    tickets = []
    for _ in range(2):
        tickets += served.post("images", content=pictures[0]).json()["tickets"]
        writer.step()
    first, second = (served.get(f"tickets/{ticket}").json() for ticket in tickets)
    assert first["ids"] == second["ids"] == second["duplicates"] == archive.ids() and first["duplicates"] == []


def test_what_is_no_image_is_refused_with_the_reason(served, archive, writer, pictures):
    bad, good = (served.post("images", content=data).json()["tickets"][0] for data in (b"no image", pictures[0]))
    writer.step()
    state = served.get(f"tickets/{bad}").json()
    assert state["state"] == "refused" and state["reason"] and not state["ids"]
    assert served.get(f"tickets/{good}").json()["state"] == "indexed"


def test_a_file_that_kills_its_decoder_is_refused_and_the_writer_lives_on(
    served, archive, writer, pictures, monkeypatch
):
    tickets = [served.post("images", content=data).json()["tickets"][0] for data in pictures[:3]]
    harmful = pool.WorkerPool(memory=512 << 20, seconds=60.0, faults={f"{tickets[1]}.bin": "crash"})
    monkeypatch.setattr(pool, "_pool", harmful)
    writer.step()
    harmful.close()
    states = [served.get(f"tickets/{ticket}").json() for ticket in tickets]
    assert [state["state"] for state in states] == ["indexed", "refused", "indexed"]
    assert "SIGSEGV" in states[1]["reason"]


def test_a_full_disk_refuses_uploads_and_keeps_what_was_acknowledged(served, archive, writer, pictures):
    """Files cannot grow beyond 500 bytes for a while, which the system reports as it does a full disk."""
    (before,) = served.post("images", content=pictures[0]).json()["tickets"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        responses = [
            served.post("images", content=pictures[1]),
            served.post("images", files=[("file", ("a.png", pictures[1]))]),
            served.post("images", content=pictures[1] * 2000),
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for response in responses:
        assert response.status_code == 507 and "free space" in response.json()["detail"]
    (after,) = served.post("images", content=pictures[1]).json()["tickets"]
    writer.step()
    assert [served.get(f"tickets/{ticket}").json()["state"] for ticket in (before, after)] == ["indexed"] * 2
    assert len(archive) == 2 and archive.verify() == []


def test_a_disk_that_is_full_midway_names_the_tickets_that_are_good(served, archive, writer, pictures, monkeypatch):
    """The third of three files finds no room."""
    limits, write = resource.getrlimit(resource.RLIMIT_FSIZE), Spool.put
    calls = []

    def put(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
        return write(self, *arguments)

    monkeypatch.setattr(Spool, "put", put)
    files = [("file", (f"{number}.png", data)) for number, data in enumerate(pictures[:4])]
    try:
        response = served.post("images", files=files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    facts = response.json()
    assert response.status_code == 507 and facts["error"] == "ArchiveFull" and facts["title"] == "The disk is full"
    assert "the first 2 of 4 files are stored" in facts["detail"]
    writer.step()
    assert [served.get(f"tickets/{ticket}").json()["state"] for ticket in facts["tickets"]] == ["indexed"] * 2
    assert len(archive) == 2 and archive.verify() == []


def test_a_ticket_says_why_it_waits_for_another_writer_or_for_any(served, archive, pictures, monkeypatch):
    monkeypatch.setattr(writers, "WAIT", 0.05)
    (ticket,) = served.post("images", content=pictures[0]).json()["tickets"]
    assert "does not run" in served.get(f"tickets/{ticket}").json()["waiting"]
    writer, stop = Writer(archive), threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    with Archive.open(archive.path) as elsewhere:
        elsewhere._lock.take()
        thread.start()
        try:
            while "is being written by process" not in served.get(f"tickets/{ticket}").json().get("waiting", ""):
                assert thread.is_alive()
            elsewhere._lock.release(clean=True)
            state = served.get(f"tickets/{ticket}", params={"wait": 30}).json()
            assert state["state"] == "indexed" and "waiting" not in state
        finally:
            stop.set()
            thread.join()
            writer.close()


def test_a_ticket_can_be_waited_for(served, archive, writer, pictures):
    (ticket,) = served.post("images", content=pictures[0]).json()["tickets"]
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        assert served.get(f"tickets/{ticket}", params={"wait": 30}).json()["state"] == "indexed"
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        ({"content": b""}, 422, "the body is empty"),
        ({"files": [("file", ("a.png", b""))]}, 422, "a file of the form is empty"),
        ({"files": [("other", ("a.png", b"x"))]}, 422, "the field 'other'"),
        ({"files": [("file", ("a.png", b"x"))], "data": {"metadata": "{"}}, 422, "metadata cannot be used, it"),
        ({"files": [("file", ("a.png", b"x"))], "data": {"metadata": '{"a": {}}'}}, 422, "metadata['a'] is a dict"),
        ({"files": [("file", ("a.png", b"x"))], "data": {"texts": "[]"}}, 422, "the field texts is []"),
        ({"content": b"x", "headers": {"x-file-name": "a" * 5000}}, 422, "the file name is"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=b"}}, 400, "cannot be read"),
    ],
)
def test_a_bad_upload_is_refused_and_stores_nothing(served, archive, sent, status, says):
    response = served.post("images", **sent)
    assert response.status_code == status and says in response.json()["detail"]
    assert archive.waiting() == 0


def test_a_body_has_a_limit_whether_declared_or_not(archive, pictures):
    from starlette.testclient import TestClient

    collections = Collections([Collection("first", archive.path)])
    app = create_app(collections, Access(OWNER, PEER), Limits(body=3000))
    with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as client:
        assert client.post("images", content=b"x" * 3001).status_code == 413
        assert client.post("images", content=iter([b"x" * 2000] * 2)).status_code == 413
        assert client.post("images", files=[("file", ("a.png", b"x" * 3001))]).status_code == 413
    collections.close()
    assert archive.waiting() == 0


def test_a_large_file_is_stored_as_it_came(served, archive, writer):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500)).astype(np.uint8)
    (ticket,) = served.post("images", content=png(noise), headers={"x-file-name": "noise.png"}).json()["tickets"]
    assert next((archive.path / "private" / "spool").glob(f"{ticket}.png")).read_bytes() == png(noise)
    writer.step()
    assert np.array_equal(archive.picture(archive.ids()[0]), noise)


@pytest.mark.parametrize("form", [True, False], ids=["form", "body"])
def test_a_large_upload_lies_in_a_file_without_a_name(served, monkeypatch, form):
    """Nothing of it stays, whatever ends the process, and no other user can read it meanwhile."""
    seen, receive = [], uploads._receive

    def watched(archive, files, facts):
        seen.extend(os.fstat(file.fileno()) for _, file in files)
        return receive(archive, files, facts)

    monkeypatch.setattr(uploads, "_receive", watched)
    data = bytes(uploads.IN_MEMORY + 1)
    sent = {"files": [("file", ("a.bin", data)), ("file", ("b.bin", data))]} if form else {"content": data}
    assert served.post("images", **sent).status_code == 202
    assert [(facts.st_nlink, facts.st_mode & 0o777) for facts in seen] == [(0, 0o600)] * (2 if form else 1)


def test_only_the_owner_may_upload_and_look(served, pictures):
    (ticket,) = served.post("images", content=pictures[0]).json()["tickets"]
    peer = {"authorization": f"Bearer {PEER}"}
    for response in (
        served.post("images", content=pictures[0], headers=peer),
        served.get(f"tickets/{ticket}", headers=peer),
        served.get("jobs", headers=peer),
        served.post("jobs", json={"kind": "compact"}, headers=peer),
        served.delete(f"images/{'0' * 32}", headers=peer),
    ):
        assert response.status_code == 403


def test_an_unknown_ticket_is_not_found(served):
    for ticket in ("1", "0" * 20 + "-" + "0" * 16, "é"):
        response = served.get(f"tickets/{ticket}")
        assert response.status_code == 404 and "no file was received" in response.json()["detail"]
