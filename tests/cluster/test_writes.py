"""Adding, removing and jobs through a service, with its writer at work."""

import asyncio
import csv

import numpy as np
import pytest
from PIL import Image

from medlike import Archive, AsyncClient, NothingAdded, Query
from medlike.archive.intake.report import AddReport
from medlike.errors import ArchiveError, InputError, QueryError

from .conftest import OWNER, client_of, served_by_a_server, writing


@pytest.fixture
def served(archive):
    """An empty archive, its writer at work, and a client: (archive, client)."""
    with writing(archive.path), client_of(archive.path) as client:
        yield archive, client


def test_files_are_uploaded_and_indexed(served, pictures, tmp_path):
    archive, client = served
    folder = pictures(5)
    (folder / "broken.png").write_bytes((folder / "0000.png").read_bytes()[:60])
    told, sent = [], []
    report = client.add(folder, progress=lambda so_far: told.append(so_far.files), sent=sent.append)
    assert (report.added, report.unchanged, report.files, report.generation) == (5, 0, 6, archive.generation)
    [(path, reason)] = report.skipped
    assert path == str(folder / "broken.png") and reason
    assert told[-1] == 6 and told == sorted(told)
    assert sum(sent) == sum(file.stat().st_size for file in folder.iterdir())
    assert sorted(client.ids()) == sorted(archive.ids()) and len(client) == 5
    kept = np.asarray(Image.open(folder / "0003.png"))
    assert any((archive.picture(id) == kept).all() for id in archive.ids())
    again = client.add([folder / "0003.png", str(folder / "000[12].png")])
    assert (again.added, again.unchanged, again.skipped) == (0, 3, [])


def test_what_a_manifest_says_goes_with_the_files(served, captioned):
    archive, client = served
    manifest = captioned(4)
    with manifest.open("a", newline="") as file:
        csv.writer(file).writerow(["absent.png", "", "CT", "patient 9", "1"])
    report = client.add(manifest)
    assert (report.added, len(report.skipped)) == (4, 1)
    with Archive.create(archive.path.with_name("beside"), archive.bundle.path, text_bundle=None) as beside:
        beside.add(manifest)
        here, there = (sorted(str(each.metadata) for each in found.browse().images) for found in (archive, beside))
    assert here == there and len(here) == 4
    assert len(archive.search(Query(text="effusion"), k=10)) == 2


def test_nothing_added_tells_the_reasons(served, tmp_path):
    _, client = served
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(NothingAdded, match=r"text\.png") as raised:
        client.add([tmp_path / "text.png", tmp_path / "absent.dcm"])
    assert isinstance(raised.value.report, AddReport) and len(raised.value.report.skipped) == 2


def test_images_are_removed_and_unknown_ids_told(served, pictures):
    archive, client = served
    archive.add(pictures(4))
    first, second, third, _ = archive.ids()
    report = client.remove([first, second, "0" * 32, "nothing"])
    assert (report.removed, report.erased, report.unknown) == (2, 0, ["0" * 32, "nothing"])
    assert report.generation == archive.generation and first not in client.ids()
    assert client.remove(third, erase=True).erased == 1
    assert len(archive) == 1


def test_verbs_that_are_jobs_report_as_those_of_the_archive(served, pictures, tmp_path):
    archive, client = served
    archive.add(pictures(12))
    seen = []
    report = client.fit(64, progress=seen.append)
    assert report.digest == archive.info()["fit"]["digest"] and report.images == 12 and report.bits == 64
    assert client.verify() == []
    client.remove(archive.ids()[:2])
    assert client.compact().rows == 2
    assert client.reindex().encoded == 0
    saved = client.backup(tmp_path / "saved")
    assert saved.images == 10 and (tmp_path / "saved" / "archive.json").exists()
    kinds = [job.kind for job in client.jobs()]
    assert kinds == ["backup", "reindex", "compact", "verify", "fit"]
    with pytest.raises(ArchiveError, match="not empty"):
        client.backup(tmp_path / "saved")
    with pytest.raises(QueryError, match="bits"):
        client.fit(7)


def test_marks_and_receipts_are_kept_by_the_service(served, pictures):
    archive, client = served
    archive.add(pictures(4))
    first, second, third, fourth = archive.ids()
    result = client.search(Query(id=first), k=3)
    kept = client.store(result.receipt)
    assert client.stored(kept) == result.receipt
    assert [hit.id for hit in client.repeat(client.stored(kept))] == [hit.id for hit in result]
    for id, mark in ((second, "like"), (third, "unlike"), (fourth, "like")):
        client.mark(kept, id, mark)
    client.unmark(kept, fourth)
    assert client.marks(kept) == {"like": [second], "unlike": [third]}
    assert client.search(Query(id=first, **client.marks(kept)), k=1).receipt["query"]["like"] == [second]
    client.forget(kept)
    assert client.marks(kept) == {"like": [], "unlike": []}
    for asked in (lambda: client.stored(kept), lambda: client.unmark(first), lambda: client.stored("../jobs")):
        with pytest.raises(InputError):
            asked()


def test_a_job_can_be_watched_and_cancelled(archive, pictures):
    archive.add(pictures(3))
    with client_of(archive.path) as client:
        waiting = client.job("compact")
        assert (waiting.state, waiting.ended) == ("queued", False)
        cancelled = client.cancel(waiting)
        assert cancelled.state == "cancelled" and client.wait(waiting.id) == cancelled
        with pytest.raises(ArchiveError, match="was cancelled"):
            cancelled.require_done()
        with pytest.raises(QueryError, match="no argument 'depth'"):
            client.job("verify", depth=3)
        with writing(archive.path):
            states = []
            done = client.wait(client.job("index", sources=[str(pictures(2, seed=5, name="more"))]),
                               progress=lambda job: states.append(job.state))  # fmt: skip
        assert done.report["added"] == 2 and states[-1] == "done"


def test_the_asynchronous_client_does_the_same_over_a_real_server(archive, pictures):
    async def doing(url):
        async with AsyncClient(url, OWNER) as client:
            report = await client.add(pictures(3))
            ids = await client.ids()
            searched, info = await asyncio.gather(client.search(Query(id=ids[0]), k=2), client.info())
            shown = await client.with_pictures(searched)
            kept = await client.store(searched.receipt)
            await client.mark(kept, ids[1], "like")
            assert (await client.marks(kept))["like"] == [ids[1]] and await client.stored(kept) == searched.receipt
            await client.unmark(kept)
            await client.forget(kept)
            assert (shown.query_picture() == await client.picture(ids[0])).all()
            assert (shown.hit_picture(shown.hits[0].id) == await client.picture(shown.hits[0].id)).all()
            fitted = await client.fit(64)
            removed = await client.remove(ids[2])
            return report, ids, searched, info, fitted, removed

    with writing(archive.path), served_by_a_server(archive.path) as url:
        report, ids, searched, info, fitted, removed = asyncio.run(doing(url))
    assert report.added == 3 and info["images"] == 3 and fitted.images == 3 and removed.removed == 1
    assert {hit.id for hit in searched} == set(ids[1:])
