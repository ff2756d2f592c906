"""Receipts and marks: stored durably, repeated, and gone with the images that they name."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from starlette.testclient import TestClient

from medlike import Archive, Query
from medlike.errors import ArchiveFull, ArchiveLocked, InputError
from medlike.service import notes
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections
from medlike.service.notes import DAYS, Notes, NoteUnknown
from medlike.service.writer import Writer

from .conftest import OWNER, PEER, as_owner

AS_PEER = {"authorization": f"Bearer {PEER}"}
UNKNOWN = "f" * 32


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_regional_bundle, encoder, write_phantoms):
    """The folder of an archive with some drawn images."""
    folder = tmp_path_factory.mktemp("receipts")
    write_phantoms(folder / "images", each=2)
    with Archive.create(folder / "archive", tiny_regional_bundle, encoder=encoder) as archive:
        archive.add(folder / "images", pixels="copy")
    return folder


@pytest.fixture
def archive(made, tmp_path, encoder):
    """A copy of that archive."""
    shutil.copytree(made / "archive", tmp_path / "archive")
    with Archive.open(tmp_path / "archive", encoder=encoder) as opened:
        yield opened


@pytest.fixture
def filled(archive, made):
    """The archive, and files to search for."""
    return archive, sorted((made / "images").glob("*.png"))


def hits(response):
    assert response.status_code == 200, response.text
    return response.json()["hits"]


def uploaded(served, file, **body):
    return served.post("search", data={"request": json.dumps(body)}, files=[("image", ("x", file.read_bytes()))])


def in_files(archive, text):
    """Return the files of an archive that hold a text."""
    return [path.name for path in archive.path.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_receipt_repeats_also_after_a_restart(served, filled):
    archive, files = filled
    ids = archive.ids()
    first = uploaded(served, files[0], k=5, rank="content")
    made = served.post("receipts", json=first.json()["receipt"])
    assert made.status_code == 201 and made.headers["location"] == f"receipts/{made.json()['id']}"
    assert made.json()["expires"] - made.json()["created"] == DAYS * 86400
    by_id = served.post("search", json={"id": ids[0], "like": ids[3:4]}).json()["receipt"]
    kept = served.post("receipts", json=by_id).json()
    assert kept["expires"] is None
    archive.remove(ids[-1])
    with TestClient(create_app(Collections([Collection("first", archive.path)]), Access(OWNER)),
                    base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as again:  # fmt: skip
        repeated = again.get(f"receipts/{made.json()['id']}")
        shown = [(hit["id"], hit["distance"], hit["similarity"]) for hit in hits(repeated)]
        assert shown == [(hit["id"], hit["distance"], hit["similarity"]) for hit in hits(first)]
        assert repeated.json()["receipt"] == first.json()["receipt"] and not repeated.json()["warnings"]
        stored = again.get(f"receipts/{kept['id']}/receipt").json()
        assert stored["receipt"] == by_id and stored["id"] == kept["id"]
        assert hits(again.get(f"receipts/{kept['id']}", params={"sources": True}))[0]["source"]["path"]
        assert again.delete(f"receipts/{kept['id']}").status_code == 204
        gone = again.get(f"receipts/{kept['id']}")
        assert gone.status_code == 404 and f"there is no stored receipt '{kept['id']}'" in gone.json()["detail"]
        assert again.delete(f"receipts/{kept['id']}").status_code == 404


def test_anybody_may_repeat_what_is_not_stored(served, filled):
    archive, _ = filled
    id = archive.ids()[0]
    first = served.post("search", json={"id": id, "k": 4, "region": [10, 10, 60, 60]}).json()
    for headers in ({}, AS_PEER):
        again = served.post("receipts/repeat", json=first["receipt"], params={"agreement": True}, headers=headers)
        assert [hit["id"] for hit in hits(again)] == [hit["id"] for hit in first["hits"]]
        assert again.json()["hits"][0]["agreement"] and not again.json()["hits"][0]["source"]
    assert served.post("receipts/repeat?sources=true", json=first["receipt"], headers=AS_PEER).status_code == 403
    assert not (archive.path / "private" / "service" / "notes.sqlite").exists()


def test_what_is_no_receipt_is_refused(served, filled):
    archive, _ = filled
    sound = served.post("search", json={"id": archive.ids()[0]}).json()["receipt"]
    query, settings = sound["query"], sound["settings"]
    for damage, detail in (
        ({"file": "Jane.png"}, "'file' is not a key of a receipt: use of, archive, branch,"),
        ({"query": None}, "this is no receipt of a search"),
        ({"query": query | {"code": "00"}}, "cannot be searched for"),
        ({"query": query | {"id": "zz"}}, "an id is not 32 hexadecimal digits"),
        ({"query": query | {"members": [query] * 33}}, "more than 32 images"),
        ({"query": query | {"region": {"box": [0, 0, 1, 1], "shape": [1, 1, 9], "codes": "", "counted": ""}}}, ""),
        ({"settings": settings | {"k": 10**6}}, "k is 1000000: ask for at most 1000 hits"),
        ({"settings": settings | {"region_weight": "a"}}, "region_weight is 'a': give a number"),
        ({"generation": 10**30}, ""), ({"generation": 77}, ""), ({"archive": "0" * 32}, "the receipt is of archive"),
        ({"bundle": "0" * 64}, "the receipt is of bundle"), ({"settings": [1]}, "this is no receipt"),
        ({"of": "texts"}, ""), ({"of": "texts", "query": query | {"text": {"text": "x"}}}, ""),
    ):  # fmt: skip
        refused = served.post("receipts/repeat", json=sound | damage)
        assert refused.status_code == 422 and detail in refused.json()["detail"], (damage, refused.text)
    for damage in ({"query": query | {"id": UNKNOWN}}, {"query": query | {"like": [UNKNOWN]}}):
        refused = served.post("receipts", json=sound | damage)
        assert refused.status_code == 422 and f"names image {UNKNOWN}" in refused.json()["detail"]
    assert served.post("receipts", json=sound | {"query": query | {"code": "00"}}).status_code == 422
    assert served.post("receipts", content=b"{").status_code == 422
    assert served.get("receipts/nothing").status_code == 404
    for verb, path in (("post", "receipts"), ("get", "receipts/a"), ("get", "receipts/a/receipt"),
                       ("delete", "receipts/a")):
        assert served.request(verb, path, headers=AS_PEER).status_code == 403


def test_marks_are_what_a_search_takes_and_persist(served, filled):
    archive, files = filled
    ids = archive.ids()
    for image, mark in ((ids[1], "like"), (ids[2], "unlike"), (ids[3], "like"), (ids[3], "unlike")):
        assert served.put(f"marks/{ids[0]}/{image}", json={"mark": mark}).json()["mark"] == mark
    receipt = served.post("receipts", json=uploaded(served, files[0]).json()["receipt"]).json()["id"]
    assert served.put(f"marks/{receipt}/{ids[1]}", json={"mark": "like"}).status_code == 200
    marks = served.get(f"marks/{ids[0]}").json()
    assert marks == {"query": ids[0], "like": [ids[1]], "unlike": sorted(ids[2:4])}
    moved = hits(served.post("search", json={"id": ids[0], "like": marks["like"], "unlike": marks["unlike"], "k": 9}))
    expected = archive.search(Query(id=ids[0], like=[ids[1]], unlike=ids[2:4]), k=9)
    assert [hit["id"] for hit in moved] == [hit.id for hit in expected]
    listed = served.get("marks").json()
    assert listed["total"] == 2 and {"query": ids[0], "like": 1, "unlike": 2} in listed["queries"]
    assert len(served.get("marks", params={"limit": 1, "offset": 1}).json()["queries"]) == 1
    app = create_app(Collections([Collection("first", archive.path)]), Access(OWNER))
    with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as again:
        assert again.get(f"marks/{ids[0]}").json() == marks
    assert served.delete(f"marks/{ids[0]}/{ids[1]}").status_code == 204
    assert served.delete(f"marks/{ids[0]}/{ids[1]}").status_code == 404
    assert served.delete(f"marks/{ids[0]}").status_code == 204
    assert served.delete(f"marks/{ids[0]}").status_code == 404
    assert served.delete(f"receipts/{receipt}").status_code == 204
    assert served.get("marks").json() == {"queries": [], "total": 0}


def test_what_cannot_be_marked_is_refused(served, filled):
    ids = filled[0].ids()
    for path, body, status, detail in (
        (f"{ids[0]}/{UNKNOWN}", {"mark": "like"}, 404, f"there is no image {UNKNOWN} in the archive"),
        (f"{UNKNOWN}/{ids[0]}", {"mark": "like"}, 404, "there is no stored receipt"),
        (f"{ids[0]}/{ids[1]}", {"mark": "good"}, 422, 'must be {"mark": "like"}'),
        (f"{ids[0]}/{ids[1]}", {"mark": ["like"]}, 422, "must be"), (f"{ids[0]}/{ids[1]}", {}, 422, "must be"),
        (f"{ids[0]}/x", {"mark": "like"}, 422, ""), (f"{ids[0]}/{ids[1]}", {"mark": "l" * 2000}, 413, "1000 bytes"),
    ):
        refused = served.put(f"marks/{path}", json=body)
        assert refused.status_code == status and detail in refused.json()["detail"]
    for verb, path in (("get", "marks"), ("get", f"marks/{ids[0]}"), ("put", f"marks/{ids[0]}/{ids[1]}"),
                       ("delete", f"marks/{ids[0]}"), ("delete", f"marks/{ids[0]}/{ids[1]}")):  # fmt: skip
        assert served.request(verb, path, headers=AS_PEER).status_code == 403
    assert served.get("marks?limit=0").status_code == 422 and served.get("marks?limits=3").status_code == 422


def test_erased_images_leave_receipts_marks_and_log(served, filled):
    archive, _ = filled
    ids = archive.ids()
    erased, stays = ids[0], ids[1]
    by_erased = served.post("receipts", json=served.post("search", json={"id": erased}).json()["receipt"]).json()["id"]
    marked = served.post("search", json={"id": stays, "like": [erased]}).json()["receipt"]
    by_mark = served.post("receipts", json=marked).json()["id"]
    kept = served.post("receipts", json=served.post("search", json={"id": stays}).json()["receipt"]).json()["id"]
    for query, image in ((erased, stays), (stays, erased), (by_erased, stays), (kept, stays)):
        assert served.put(f"marks/{query}/{image}", json={"mark": "like"}).status_code == 200
    hits(served.post("search", json={"id": stays, "sources": True}))
    writer = Writer(archive)
    writer.step()
    assert served.get("marks").json()["total"] == 4  # nothing is dropped while all images are there
    archive.remove(erased)
    writer.step()
    assert served.get("marks").json()["total"] == 4  # earlier generations still see the image
    archive.remove(erased, erase=True)
    writer.step()
    writer.close()
    assert [each["query"] for each in served.get("marks").json()["queries"]] == [kept]
    for receipt, status in ((by_erased, 404), (by_mark, 404), (kept, 200)):
        assert served.get(f"receipts/{receipt}").status_code == status
    assert in_files(archive, erased) == []
    log = (archive.path / "private" / "service" / "access.log").read_text()
    assert stays not in log and '"erased"' in log  # the query itself is no hit


def test_they_are_also_dropped_when_a_service_starts(served, filled):
    archive, _ = filled
    id = archive.ids()[0]
    served.put(f"marks/{id}/{archive.ids()[1]}", json={"mark": "like"})
    archive.remove(id, erase=True)
    create_app(Collections([Collection("first", archive.path)]), Access(OWNER))
    assert served.get("marks").json()["total"] == 0 and in_files(archive, id) == []


def test_a_purge_that_was_put_off_is_made_up_for(filled):
    archive, _ = filled
    book, ids = Notes.of(archive), archive.ids()
    book.mark(ids[0], ids[1], "like")
    with closing(sqlite3.connect(book.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM marks").fetchall()
        archive.remove(ids[0], erase=True)
        with pytest.raises(ArchiveLocked, match=r"held by a reader|being written"):
            notes.forget(archive)
        reader.execute("ROLLBACK")
    assert notes.forget(archive) == 0 and in_files(archive, ids[0]) == []


def test_the_notebook_is_bounded(archive, monkeypatch):
    book = Notes.of(archive)
    given = {"query": {"id": None, "code": "00"}}
    first = book.store(given, now=1000.0)
    assert book.receipt(first.id, now=1000.0 + DAYS * 86400 - 1).receipt == given
    with pytest.raises(NoteUnknown, match="more than 30 days ago"):
        book.receipt(first.id, now=1000.0 + DAYS * 86400)
    book.mark(first.id, "a" * 32, "like")
    book.store({"query": {"id": "b" * 32, "code": "00"}}, now=1000.0 + DAYS * 86400)
    assert book.number("SELECT count(*) FROM receipts") == 1 and book.marked(9, 0) == ([], 0)
    monkeypatch.setattr(notes, "MOST_RECEIPTS", 1)
    with pytest.raises(ArchiveFull, match=r"1 receipts .* the limit is 1 and .*: delete some"):
        book.store(given)
    with pytest.raises(InputError, match=r"the receipt has .* bytes: the limit is 2,097,152"):
        book.store({"query": {"text": "x" * (2 << 20)}})
    monkeypatch.setattr(notes, "MOST_MARKED", 1)
    for number in range(100):
        book.mark("q", f"{number:032x}", "like")
    with pytest.raises(InputError, match="100 images are marked for this query, the limit"):
        book.mark("q", "a" * 32, "like")
    book.mark("q", f"{1:032x}", "unlike")
    with pytest.raises(ArchiveFull, match="1 queries have marks, the limit"):
        book.mark("p", "a" * 32, "like")
    book.close()


def test_the_archive_minds_no_notebook(served, filled, tmp_path):
    archive, _ = filled
    ids = archive.ids()
    before = archive.info()["bytes"]["private"]
    served.put(f"marks/{ids[0]}/{ids[1]}", json={"mark": "like"})
    hits(served.post("search", json={"id": ids[0], "sources": True}))
    folder = archive.path / "private" / "service"
    assert {path.name for path in folder.iterdir()} >= {"notes.sqlite", "access.log"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.iterdir()])
    assert archive.verify() == [] and archive.info()["bytes"]["private"] > before
    archive.compact()
    archive.backup(tmp_path / "backup", links=True, with_id_key=True)
    assert not list((tmp_path / "backup").rglob("service")) and not list((tmp_path / "backup").rglob("notes*"))
    assert served.get(f"marks/{ids[0]}").json()["like"] == [ids[1]]


def test_a_folder_that_is_a_link_is_refused(served, filled, tmp_path):
    archive, _ = filled
    (tmp_path / "elsewhere").mkdir()
    (archive.path / "private" / "service").symlink_to(tmp_path / "elsewhere")
    refused = served.get("marks")
    assert refused.status_code == 500 and "private/service" in refused.json()["detail"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
