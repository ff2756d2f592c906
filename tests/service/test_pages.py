"""Files of the pages, and the picture of a question."""

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections

from .conftest import OWNER, PEER, as_owner

HERE = "http://127.0.0.1:8000"


@pytest.fixture
def pages(served):
    """The same service, with paths from its root."""
    served.base_url = HERE
    return served


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def test_every_file_that_a_page_names_is_there(pages):
    from medlike.service.static_files import static_files

    page = pages.get("/").text
    assert {"main.js", "room.css", "icon.svg"} <= {name for name in static_files() if f"/static/{name}" in page}
    for name, file in static_files().items():
        answer = pages.get(f"/static/{name}")
        assert answer.content == file.content and answer.headers["x-content-type-options"] == "nosniff"
        known = pages.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        for other in ("../pages.py", "room.css/", "none.js"):
            assert pages.get(f"/static/{other}").status_code == 404


def test_scripts_are_short_and_make_no_html():
    from medlike.service.static_files import static_files

    for name, file in static_files().items():
        if name.endswith(".js"):
            # The name of a namespace is no address.
            text = file.content.decode().replace("http://www.w3.org/2000/svg", "")
            assert len(text.splitlines()) < 400, name
            for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://"):
                assert forbidden not in text, f"{name}: {forbidden}"


def test_the_policy_lets_only_own_scripts_run(pages):
    policy = dict(part.strip().split(" ", 1) for part in pages.get("/").headers["content-security-policy"].split(";"))
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["default-src"] == "'none'" and policy["require-trusted-types-for"] == "'script'"


def test_a_name_of_an_archive_is_a_text(archive):
    collections = Collections([Collection('a"<b>', archive.path)])
    with TestClient(create_app(collections, Access(OWNER)), base_url=HERE, headers=as_owner()) as client:
        page = client.get("/").text
    collections.close()
    assert "<b>" not in page and "a&#34;&lt;b&gt;" in page


def test_the_picture_of_a_question_is_what_medlike_reads(pages, archive):
    picture = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    answer = pages.post("/room/picture", files={"image": png(picture)})
    shown = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))
    assert np.array_equal(shown, picture) and answer.headers["cache-control"] == "no-store"
    large = pages.post("/room/picture", files={"image": png(np.zeros((1500, 3000), np.uint8))})
    assert Image.open(io.BytesIO(large.content)).size == (1024, 512)
    assert len(archive) == 0


def test_a_picture_is_refused_with_the_reason(pages):
    for body, status, reason in (
        ({"files": {"image": b"<svg onload='x'/>"}}, 422, "not an image"),
        ({"content": b"x"}, 415, "multipart"),
        ({"files": [("image", b"x"), ("image", b"y")]}, 422, "send one"),
        ({"files": {"other": b"x"}}, 422, "field"),
    ):
        answer = pages.post("/room/picture", **body)
        assert answer.status_code == status and reason in answer.json()["detail"]
    peer = pages.post("/room/picture", files={"image": b"x"}, headers={"authorization": f"Bearer {PEER}"})
    assert peer.status_code == 403
