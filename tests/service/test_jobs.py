"""Jobs: submitted, done in order, followed, cancelled, and done again after the writer died."""

import json
import threading
import time
from contextlib import contextmanager

import pytest
from PIL import Image

from medlike import Archive
from medlike.archive.intake import fitting, ingest
from medlike.service import writer as writers
from medlike.service.jobs import queue_of
from medlike.service.routes import jobs as routes
from medlike.service.wake import wake
from medlike.service.writer import Writer


class Watched:
    """An encoder that calls `then` once, when the thread of the jobs first encodes images."""

    def __init__(self, encoder, then):
        self.encoder, self.then = encoder, then

    def encode(self, images):
        if threading.current_thread().name == "medlike-jobs" and self.then is not None:
            then, self.then = self.then, None
            then()
        return self.encoder.encode(images)


@pytest.fixture
def folder(tmp_path, tiny_pictures):
    """A folder of twelve images."""
    place = tmp_path / "images"
    place.mkdir()
    for number, picture in enumerate(tiny_pictures(12, seed=6)):
        Image.fromarray(picture).save(place / f"{number:02}.png")
    return place


@pytest.fixture
def writer(archive):
    made = Writer(archive)
    yield made
    made.close()


@contextmanager
def running(writer):
    """The writer at work in a thread; its jobs have ended when the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        wake(writer.queue.path.parent)
        thread.join()


def ended(queue, id):
    while queue.job(id).state in ("queued", "running"):
        time.sleep(0.01)
    return queue.job(id)


def test_two_jobs_are_done_in_their_order(served, archive, writer, folder):
    first = served.post("jobs", json={"kind": "index", "sources": [str(folder)], "fit": "never"})
    second = served.post("jobs", json={"kind": "compact"})
    assert first.status_code == second.status_code == 202
    assert first.headers["location"] == f"/api/v1/jobs/{first.json()['id']}"
    assert first.json()["state"] == second.json()["state"] == "queued"
    assert writer.step()
    assert served.get("jobs/1").json()["state"] == "done" and served.get("jobs/2").json()["state"] == "queued"
    assert writer.step() and not writer.step()
    job = served.get("jobs/1").json()
    assert job["report"]["added"] == job["progress"]["added"] == len(archive) == 12
    listed = served.get("jobs", params={"limit": 1}).json()
    assert listed["total"] == 2 and [each["id"] for each in listed["jobs"]] == [2] and "report" not in listed["jobs"][0]


@pytest.mark.parametrize("kind", ["reindex", "verify", "upgrade", "fit"])
def test_every_kind_ends_with_its_report(served, archive, writer, folder, kind):
    archive.add(folder, fit="never")
    served.post("jobs", json={"kind": kind, **({"bits": 16} if kind == "fit" else {})})
    writer.step()
    job = served.get("jobs/1").json()
    assert job["state"] == "done" and job["error"] is None
    assert kind != "verify" or job["report"] == {"problems": []}
    assert kind != "fit" or job["report"]["bits"] == 16


def test_what_was_received_is_there_before_the_fit_that_it_makes_due(served, archive, writer, folder, monkeypatch):
    monkeypatch.setattr(fitting, "FIRST_IMAGES", 12)
    monkeypatch.setattr(fitting, "FIRST_UNITS", 12)
    for path in sorted(folder.iterdir()):
        served.post("images", content=path.read_bytes())
    assert writer.write() and len(archive) == 12
    assert archive.fit_due() == "first" and served.get("jobs").json()["total"] == 0
    assert writer.work()
    job = served.get("jobs/1").json()
    assert (job["kind"], job["arguments"], job["state"]) == ("fit", {"due": "first"}, "done")
    assert job["report"]["images"] == 12 and job["report"]["reason"] == "first"
    assert archive.fit_due() is None and not writer.step()


def test_a_fit_that_comes_to_nothing_is_not_tried_again_at_once(served, archive, writer, folder, monkeypatch):
    monkeypatch.setattr(fitting, "FIRST_IMAGES", 1)
    monkeypatch.setattr(fitting, "FIRST_UNITS", 1)
    monkeypatch.setattr(writers, "FITTED", 0.0)
    first, second, *_ = sorted(folder.iterdir())
    served.post("images", content=first.read_bytes())
    assert writer.step()
    [remark] = served.get("jobs/1").json()["report"]["remarks"]
    assert "codes were not fitted" in remark
    served.post("images", content=first.read_bytes())
    assert writer.step() and served.get("jobs").json()["total"] == 1
    served.post("images", content=second.read_bytes())
    assert writer.step() and served.get("jobs").json()["total"] == 2


def test_a_backup_takes_its_passphrase_from_memory(served, archive, writer, folder, tmp_path):
    archive.add(folder, fit="never")
    body = {"kind": "backup", "target": str(tmp_path / "copy"), "passphrase": "a long secret"}
    assert "a long secret" not in served.post("jobs", json=body).text
    for path in (archive.path / "private" / "service").iterdir():
        assert not path.is_file() or b"a long secret" not in path.read_bytes()
    writer.step()
    assert served.get("jobs/1").json()["state"] == "done"
    with Archive.restore(tmp_path / "copy", tmp_path / "back", passphrase="a long secret") as back:
        assert len(back) == 12


def test_a_passphrase_does_not_outlive_its_writer(served, archive, tmp_path):
    body = {"kind": "backup", "target": str(tmp_path / "copy"), "passphrase": "a long secret"}
    assert served.post("jobs", json=body).status_code == 503
    first = Writer(archive)
    served.post("jobs", json=body)
    first.close()
    second = Writer(archive)
    second.step()
    job = served.get("jobs/1").json()
    assert job["state"] == "failed" and "only in the memory" in job["error"]["detail"]
    assert not (tmp_path / "copy").exists()
    assert served.post("jobs", json={**body, "passphrase": "a" * 5000}).status_code == 422
    second.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the kind of job is None"),
        ({"kind": "dig"}, "give one of index, reindex"),
        ({"kind": ["fit"]}, "the kind of job is ['fit']"),
        ({"kind": "compact", "wait": 1}, "it takes none"),
        ({"kind": "fit", "bit": 64}, "it takes bits, labels"),
        ({"kind": "fit", "bits": True}, "bits is True: give a whole number"),
        ({"kind": "index"}, "needs sources"),
        ({"kind": "index", "sources": "/x"}, "give a list of texts"),
        ({"kind": "index", "sources": ["x"]}, "'x' is not an absolute path"),
        ({"kind": "index", "sources": ["/x"], "pixels": "none"}, "pixels is 'none'"),
        ({"kind": "index", "sources": ["/x"], "frames": 0}, "frames is 0"),
        ({"kind": "index", "sources": ["/x"], "on_conflict": "x"}, "on_conflict is 'x'"),
        ({"kind": "backup", "target": "/x", "passphrase": ""}, "the passphrase is empty"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(served, archive, body, says):
    response = served.post("jobs", json=body)
    assert response.status_code == 422 and says in response.json()["detail"]
    assert served.get("jobs").json()["total"] == 0


def test_a_job_that_fails_says_why_and_the_next_goes_on(served, archive, writer, folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    served.post("jobs", json={"kind": "index", "sources": [str(tmp_path / "missing")]})
    served.post("jobs", json={"kind": "index", "sources": [str(tmp_path / "bad.png")]})
    served.post("jobs", json={"kind": "index", "sources": [str(folder)]})
    while writer.step():
        pass
    missing, bad, good = (served.get(f"jobs/{id}").json() for id in (1, 2, 3))
    assert missing["state"] == "failed" and "missing" in missing["error"]["detail"]
    assert bad["error"]["error"] == "NothingAdded" and len(bad["report"]["skipped"]) == 1
    assert good["state"] == "done" and len(archive) == 12


def test_an_upload_is_found_before_a_long_job_ends(served, archive, writer, folder, tiny_pictures, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 2)
    monkeypatch.setattr(ingest, "BATCH", 2)
    extra = folder.parent / "extra.png"
    Image.fromarray(tiny_pictures(1, seed=7)[0]).save(extra)
    tickets = []

    def upload():
        tickets.extend(served.post("images", content=extra.read_bytes()).json()["tickets"])
        while not archive._lock._awaited():
            time.sleep(0.005)

    loaded = archive._bundles.current()
    loaded._encoder = Watched(loaded._encoder, upload)
    with running(writer):
        served.post("jobs", json={"kind": "index", "sources": [str(folder)], "fit": "never"})
        assert ended(writer.queue, 1).state == "done"
    (ticket,) = tickets
    (id,) = served.get(f"tickets/{ticket}").json()["ids"]
    assert len(archive) == 13 and archive.ids().index(id) <= 4


def test_a_running_job_is_cancelled_between_groups(served, archive, writer, folder, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 2)
    monkeypatch.setattr(ingest, "BATCH", 2)
    answers = []
    loaded = archive._bundles.current()
    loaded._encoder = Watched(loaded._encoder, lambda: answers.append(served.delete("jobs/1")))
    with running(writer):
        served.post("jobs", json={"kind": "index", "sources": [str(folder)], "fit": "never"})
        assert ended(writer.queue, 1).state == "cancelled"
        served.post("jobs", json={"kind": "verify"})
        assert ended(writer.queue, 2).report == {"problems": []}
    assert answers[0].status_code == 202 and answers[0].json()["cancelling"]
    assert 0 < len(archive) < 12
    assert served.delete("jobs/1").status_code == 409
    assert served.delete("jobs/9").status_code == served.get("jobs/9").status_code == 404
    assert served.get(f"jobs/{2**70}").status_code == 404


@pytest.mark.parametrize("kind", ["compact", "verify", "backup"])
def test_a_job_that_cannot_be_interrupted_says_so(served, archive, writer, tmp_path, kind):
    served.post("jobs", json={"kind": kind, **({"target": str(tmp_path / "copy")} if kind == "backup" else {})})
    job = writer.queue.begin()
    response = served.delete("jobs/1")
    assert response.status_code == 409
    assert f"job 1 is running, and {kind} cannot be interrupted" in response.json()["detail"]
    assert not served.get("jobs/1").json()["cancelling"]
    writer._do(job)
    assert served.get("jobs/1").json()["state"] == "done"


def test_a_waiting_job_is_cancelled_at_once(served, writer):
    served.post("jobs", json={"kind": "compact"})
    assert served.delete("jobs/1").json()["state"] == "cancelled"
    assert not writer.step()


def test_a_stopped_writer_leaves_its_job_to_the_next(served, archive, writer, folder, monkeypatch):
    monkeypatch.setattr(ingest, "GROUP", 2)
    monkeypatch.setattr(ingest, "BATCH", 2)
    stop = threading.Event()
    loaded = archive._bundles.current()
    loaded._encoder = Watched(loaded._encoder, stop.set)
    served.post("jobs", json={"kind": "index", "sources": [str(folder)], "fit": "never"})
    writer.run(stop)
    job = served.get("jobs/1").json()
    assert job["state"] == "queued" and job["deaths"] == 0 and 0 < len(archive) < 12
    later = Writer(archive)
    later.step()
    later.close()
    assert served.get("jobs/1").json()["state"] == "done" and len(archive) == 12


def test_a_job_is_done_again_after_a_death_and_given_up_after_two(served, archive, folder, tmp_path):
    queue = queue_of(archive.path)
    served.post("jobs", json={"kind": "index", "sources": [str(folder)]})
    served.post("jobs", json={"kind": "backup", "target": str(tmp_path / "copy")})
    for _ in range(2):
        assert queue.begin() is not None
    for deaths, states in ((1, ("queued", "failed")), (2, ("failed", "failed"))):
        Writer(archive).close()
        jobs = [served.get(f"jobs/{id}").json() for id in (1, 2)]
        assert tuple(job["state"] for job in jobs) == states and jobs[0]["deaths"] == deaths
        queue.begin()
    assert "ended 2 times" in jobs[0]["error"]["detail"] and str(tmp_path / "copy") in jobs[1]["error"]["detail"]


def test_events_tell_of_every_state_and_resume(served, archive, writer, monkeypatch):
    monkeypatch.setattr(routes, "LOOK", 0.005)
    monkeypatch.setattr(routes, "HEARTBEAT", 0.0)
    served.post("jobs", json={"kind": "compact"})
    streams = []
    reader = threading.Thread(target=lambda: streams.append(served.get("jobs/1/events")))
    reader.start()
    writer.step()
    reader.join()
    response = streams[0]
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in response.text.strip().split("\n\n")]
    events = [block for block in blocks if "data" in block]
    assert json.loads(events[-1]["data"]) == served.get("jobs/1").json()
    version = int(events[-1]["id"])
    assert [int(event["id"]) for event in events] == sorted({int(event["id"]) for event in events})
    resumed = served.get("jobs/1/events", headers={"last-event-id": str(version - 1)})
    assert resumed.text.startswith(f"id: {version}\nevent: job\n")
    assert served.get("jobs/1/events", headers={"last-event-id": str(version)}).status_code == 204
    assert served.get("jobs/7/events").status_code == 404


def test_a_quiet_stream_says_that_it_lives(served, writer, monkeypatch):
    monkeypatch.setattr(routes, "LOOK", 0.005)
    monkeypatch.setattr(routes, "HEARTBEAT", 0.0)
    served.post("jobs", json={"kind": "compact"})
    looks = []
    version = writer.queue.version

    def looked(self, id):
        looks.append(id)
        if len(looks) == 5:
            writer.step()
        return version(id)

    monkeypatch.setattr(type(writer.queue), "version", looked)
    assert ": still here\n\n" in served.get("jobs/1/events").text


def test_times_of_jobs_decide_nothing(served, writer, monkeypatch):
    """The clock is turned back between two jobs, and far ahead while one runs."""
    clock = time.time
    served.post("jobs", json={"kind": "verify"})
    monkeypatch.setattr(time, "time", lambda: clock() - 1e8)
    served.post("jobs", json={"kind": "compact"})
    writer.step()
    assert [served.get(f"jobs/{id}").json()["state"] for id in (1, 2)] == ["done", "queued"]
    monkeypatch.setattr(time, "time", lambda: clock() + 1e8)
    writer.step()
    assert served.get("jobs/2").json()["state"] == "done"
