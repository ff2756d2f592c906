"""POST search: every key, every refusal with its text, and the same results as in the process."""

import asyncio
import json
import random
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from medlike import Archive, Query
from medlike.archive.search.settings import SearchSettings
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections
from medlike.service.limits import Limits
from medlike.service.search_request import KEYS

from .conftest import OWNER, PEER, as_owner

AS_PEER = {"authorization": f"Bearer {PEER}"}
JANE = "Doe^Jane 1949.png"  # a file name that names a person


@pytest.fixture(scope="module")
def filled(tmp_path_factory, tiny_regional_bundle, encoder, write_phantoms):
    """An archive of drawn images with patients, fitted codes, and the files of other images."""
    folder = tmp_path_factory.mktemp("search")
    write_phantoms(folder / "in", each=5)
    write_phantoms(folder / "others", each=1, first=700)
    with Archive.create(folder / "archive", tiny_regional_bundle, encoder=encoder) as made:
        made.add(folder / "in" / "manifest.csv", pixels="copy")
        made.fit(bits=32)
        yield made, sorted((folder / "others").glob("*.png"))


@pytest.fixture(scope="module")
def client(filled):
    """The owner's client of a service over `filled`, with small limits."""
    collections = Collections([Collection("first", filled[0].path)])
    app = create_app(collections, Access(OWNER, PEER), Limits(body=3 << 20, json=200_000, k=100))
    with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as made:
        yield made
    collections.close()


def comparable(facts):
    """An answer as JSON holds it, without times and what `to_dict` has not."""
    left_out = ("seconds", "summary", "unjudged", "encoded")
    return {name: value for name, value in json.loads(json.dumps(facts)).items() if name not in left_out}


def posted(client, body, files=(), **more):
    if not files:
        return client.post("search", json=body, **more)
    images = [("image", (JANE, Path(file).read_bytes())) for file in files]
    return client.post("search", data={"request": json.dumps(body)}, files=images, **more)


def drawn(draw, ids, files, generation):
    """A random search: the body, the uploaded files, and query and settings for the archive."""
    body, uploads = {"k": draw.choice([1, 3, 10, 40])}, []
    kind = draw.choice(["id", "id", "image", "images", "region", "text", "both"])
    if kind in ("id", "both"):
        body["id"] = draw.choice(ids)
    if kind in ("image", "region"):
        uploads = [draw.choice(files)]
    if kind == "images":
        uploads = draw.sample(files, draw.choice([2, 3]))
    if kind in ("text", "both"):
        body |= {"text": draw.choice(["lesion", "CT chest", "MR of the brain"])}
        if draw.random() < 0.5:
            body |= {"weights": {"words": 2, "image": 0.5}, "depth": draw.choice([5, 100])}
    if kind == "region":
        body["region"] = [draw.randrange(40), draw.randrange(40), draw.randrange(50, 96), draw.randrange(50, 96)]
        body |= draw.choice([
            {}, {"orientations": 1}, {"scales": 1, "region_weight": 0.5}, {"region_distance": "share"},
            {"region_turns": "rearranged", "shortlist": 20},
        ])  # fmt: skip
    elif kind != "text":
        ranks = ["content", "hamming", "shortlist", "exact", "neighbours"]
        body["rank"] = draw.choice(ranks if kind == "both" else ["radius", *ranks])
        body |= draw.choice([{}, {"radius": 14}]) if kind != "both" else {}
    if kind in ("id", "image") and draw.random() < 0.5:
        like, unlike = draw.sample(ids, 2), draw.sample(ids, 1)
        body |= {"like": like, "unlike": [id for id in unlike if id not in like]}
    body |= draw.choice([{}, {}, {"where": {"modality": ["CT", "MR"]}}, {"where": {"region": {"ne": "chest"}}}])
    groups = [{"group_by": "study", "others": 2}, {"collapse": "patient"}, {"collapse": "duplicates"}]
    body |= draw.choice([{}, {}, *groups])
    body |= draw.choice([{}, {"exclude_own_patient": True}, {"include_self": True}, {"codes": "trained"}])
    body |= draw.choice([{}, {"title": "Case 7"}, {"generation": generation}])
    names = {each.name for each in fields(SearchSettings)}
    asked = {name: value for name, value in body.items() if name not in names}
    asked |= {"image": uploads[0]} if len(uploads) == 1 else {"images": uploads} if uploads else {}
    settings = {name: value for name, value in body.items() if name in names}
    return body, uploads, asked, settings


def test_random_searches_are_those_of_the_archive(client, filled):
    archive, files = filled
    ids, draw, used = archive.ids(), random.Random(1), set()
    for _ in range(100):
        body, uploads, asked, settings = drawn(draw, ids, files, archive.generation)
        sources, parts = draw.random() < 0.5, draw.choice([[], ["agreement"], ["encoded", "agreement"]])
        response = posted(client, {**body, "sources": sources, "parts": parts}, uploads)
        assert response.status_code == 200, (body, response.text)
        result = archive.search(Query(**asked), **settings)
        expected = comparable(result.to_dict("agreement" in parts))
        if not sources:
            for hit in expected["hits"]:
                for each in (hit, *hit["others"]):
                    each["source"] = None
        answer = response.json()
        assert comparable(answer) == expected, body
        assert answer["summary"] == json.loads(json.dumps(result.summary().to_dict()))
        assert answer["unjudged"] == result.unjudged and ("encoded" in answer) == ("encoded" in parts)
        assert "Jane" not in response.text
        used.update(body)
    assert set(KEYS) - used == {"encoded", "parts", "sources", "texts", "k"} - used


def test_an_encoded_query_is_ranked_again_without_its_image(client, filled):
    archive, files = filled
    ids = archive.ids()
    first = posted(client, {"parts": ["encoded"], "k": 5}, files[:1])
    encoded = first.json()["encoded"]
    assert "Jane" not in first.text
    for body, query in (
        ({"rank": "exact"}, Query(image=files[0])), ({"codes": "trained"}, Query(image=files[0])),
        ({"like": ids[:2], "unlike": ids[5:6]}, Query(image=files[0], like=ids[:2], unlike=ids[5:6])),
        ({"exclude_own_patient": True}, Query(image=files[0])),
        ({"text": "lesion"}, Query(image=files[0], text="lesion")),
    ):  # fmt: skip
        settings = {name: value for name, value in body.items() if name in ("rank", "codes", "exclude_own_patient")}
        answer = client.post("search", json={"encoded": encoded, **body})
        expected = archive.search(query, **settings).to_dict(False)
        for hit in expected["hits"]:
            hit["source"] = None
        assert comparable(answer.json()) == comparable(expected), body
    refused = client.post("search", json={"encoded": encoded | {"bundle": "0" * 64}})
    assert refused.status_code == 422 and refused.json()["error"] == "QueryError"
    assert refused.json()["detail"].startswith("the encoded query is of bundle 0000000000000000, the archive now uses ")
    refused = client.post("search", json={"encoded": {"version": 1}})
    assert refused.status_code == 422 and "this is no encoded query" in refused.json()["detail"]


BOMB = '{"where": ' + '{"a": ' * 200_00 + "1" + "}" * 200_00 + "}"


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("{", 422, "the body cannot be used, it is not JSON"), ("[]", 422, "the body is []: send a JSON object"),
        ('{"k": NaN, "id": "x"}', 422, "it holds NaN"), ('{"k": 1e999}', 422, "it holds a number beyond"),
        (BOMB, 422, "nested deeper than 32 levels"), (b"\xff\xfe", 422, "it is not"),
        ('{"id": "\\ud800"}', 422, "half of a surrogate pair"),
        ("x" * 200_001, 413, "the body has more than 200000 bytes"),
        ({}, 422, "a query is empty: give image="),
        ({"kk": 1}, 422, "'kk' is not a key of a search: use id, text, region,"),
        ({"id": "x"}, 422, "there is no image 'x' in the archive"),
        ({"id": "x", "k": 101}, 422, "k is 101: ask for at most 100 hits"),
        ({"id": "x", "k": 0}, 422, "k is 0: ask for 1"),
        ({"id": "x", "k": True}, 422, "k is 'True': give a whole number"),
        ({"id": "x", "k": 10**39}, 422, "ask for at most 100 hits"),
        ({"id": "x", "others": 101}, 422, "ask for at most 2000 hits with those of their groups"),
        ({"id": "x", "k": 100, "others": 20, "group_by": "study"}, 422, "ask for at most 2000 hits"),
        ({"id": "x", "depth": 10001}, 422, "depth is 10001: give at most 10000 images"),
        ({"id": "x", "generation": 1 << 63}, 422, "give a smaller number"),
        ({"id": "x", "generation": 99}, 422, "generation"),
        ({"id": "x", "region_weight": "1"}, 422, "region_weight is '1': give a number"),
        ({"id": "x", "where": [1]}, 422, "where is '[1]': give an object"),
        ({"id": "x", "where": {"nothing": 1}}, 422, "no image has the field nothing"),
        ({"id": "x", "rank": "best"}, 422, "rank is 'best': use one of"), ({"id": 3}, 422, "id is '3': give a text"),
        ({"id": "x", "weights": {"words": "a"}}, 422, "weight"),
        ({"id": "x", "parts": ["all"]}, 422, "parts holds 'all'"),
        ({"id": "x", "parts": [[]]}, 422, "parts holds '[]'"), ({"id": "x", "title": "t" * 1001}, 422, "at most 1000"),
        ({"id": "x", "like": [1]}, 422, "like is [1]"), ({"id": "x", "region": [1, 2]}, 422, "the region is [1, 2]"),
        ({"text": "a", "region": [0, 0, 1, 1]}, 422, "a region needs the image it is in"),
        ({"id": "x", "texts": True, "rank": "exact"}, 422, "rank is not a setting of a search for texts"),
        ({"id": "x", "texts": True, "parts": ["agreement"]}, 422, "texts have no agreement map"),
        ({"id": "x", "texts": True}, 422, "this archive has no texts"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_for_is_refused_with_a_sentence(client, body, status, detail):
    sent = {"json": body} if isinstance(body, dict) else {"content": body}
    response = client.post("search", **sent)
    assert response.status_code == status and response.headers["content-type"] == "application/problem+json"
    assert detail in response.json()["detail"]


def test_uploads_that_cannot_be_searched_for_are_refused(client, filled, capfd):
    archive, files = filled
    image, id = files[0], archive.ids()[0]
    for body, uploads, status, detail in (
        ({"id": id}, [image], 422, "a query has an image or an id, not both"),
        ({}, [image] * 33, 422, "images has 33 images: give 1 to 32 of one study"),
        ({"region": [500, 500, 600, 600]}, [image], 422, "lies outside of the image of 96 x 96 pixels"),
        ({"like": [id]}, [image, image], 422, "several images are compared as they are"),
        ({"encoded": {}}, [image], 422, "this is no encoded query"),
    ):
        response = posted(client, body, uploads)
        assert response.status_code == status and detail in response.json()["detail"], response.text
    for content, detail in ((b"no picture", "it is a text file"), (b"", "the file is empty"),
                            (b"\x89PNG\r\n\x1a\n1", "")):
        response = client.post("search", files=[("image", (JANE, content))])
        assert response.status_code == 422 and response.json()["error"] == "ImageError"
        assert detail in response.json()["detail"] and "Jane" not in response.text and "/proc" not in response.text
    large = client.post("search", files=[("image", (JANE, bytes(3 << 20)))])
    assert large.status_code == 413 and "at most 3145728 are accepted" in large.json()["detail"]

    def undeclared():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
        for _ in range(40):
            yield bytes(1 << 17)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("search", content=undeclared(), headers=headers).status_code == 413
    for files_, fields_, status, detail in (
        ([("images", ("a", b"x"))], {}, 422, "'images' is not a field of a search: use request and image"),
        ([("image", ("a", b"x"))], {"request": "{"}, 422, "the field request cannot be used, it is not JSON"),
        ([("image", ("a", b"x"))], {"request": ["{}", "{}"]}, 422, "there are 2 fields request: send one"),
        ([("image", (None, "x"))], {}, 422, "a field image does not hold a file"),
        ([("image", ("a", b"x"))] * 65, {}, 400, "Too many files"),
    ):
        response = client.post("search", files=files_, data=fields_)
        assert response.status_code == status and detail in response.json()["detail"], response.text
    for content in (b"", b"x", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"):
        assert client.post("search", content=content, headers=headers).status_code in (400, 422)
    assert "Jane" not in "".join(capfd.readouterr())


def test_peers_see_no_source_and_use_no_true_value(client, filled, tmp_path):
    archive, files = filled
    id = archive.ids()[0]
    for hit in client.post("search", json={"id": id}, headers=AS_PEER).json()["hits"]:
        assert hit["source"] is None
    refused = client.post("search", json={"id": id, "sources": True}, headers=AS_PEER)
    assert refused.status_code == 403 and "leave `sources` out" in refused.json()["detail"]
    where = {"id": id, "where": {"patient": "ct_chest-0-0"}}
    refused = client.post("search", json=where, headers=AS_PEER)
    assert refused.status_code == 422 and "cannot be filtered by its true value here" in refused.json()["detail"]
    assert client.post("search", json=where).status_code == 200
    refused = posted(client, {"exclude_own_patient": True}, files[:1], headers=AS_PEER)
    assert refused.status_code == 422 and "cannot be filtered by its true value here" in refused.json()["detail"]
    assert posted(client, {"parts": ["encoded"]}, files[:1], headers=AS_PEER).json()["encoded"]["own"] == {}


def test_an_unknown_parameter_of_the_address_is_refused(client):
    response = client.post("search?k=3", json={"id": "x"})
    assert response.status_code == 422 and "'k' is not a parameter" in response.json()["detail"]


def test_the_description_names_every_key(client):
    described = client.get("openapi.json").json()["paths"]["/api/v1/search"]["post"]
    content = described["requestBody"]["content"]
    assert set(content["application/json"]["schema"]["properties"]) == set(KEYS)
    assert set(content["multipart/form-data"]["schema"]["properties"]) == {"request", "image"}
    assert "hits" in described["responses"]["200"]["content"]["application/json"]["schema"]["properties"]


def sent(app, messages, headers):
    """Send a request as a server would, message by message; return the messages of the answer."""
    answer, waiting = [], iter(messages)
    address = {"path": "/api/v1/search", "raw_path": b"/api/v1/search", "query_string": b"", "root_path": ""}
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", **address,
             "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}  # fmt: skip

    async def receive():
        return next(waiting)

    async def send(message):
        answer.append(message)

    asyncio.run(app(scope, receive, send))
    return answer


def test_an_aborted_upload_leaves_nothing(client, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + bytes(2 << 20)
    kinds = ("multipart/form-data; boundary=b", "application/json")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for kind in kinds:
        messages = [{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}]
        if kind == "application/json":
            messages[0]["body"] = b'{"id": '
        answer = sent(client.app, messages, {**as_owner(), "content-type": kind, "host": "127.0.0.1:8000"})
        assert answer[0]["status"] == 400
    assert list(tmp_path.iterdir()) == [] and not caplog.records
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2  # connections of this thread


def test_searches_wait_for_a_thread_while_others_are_answered(client, filled):
    """With as many searches under way as may be, another waits, and health answers."""
    service = client.app.state.service
    let, begun = threading.Event(), threading.Barrier(service.limits.searches + 1)

    def busy():
        begun.wait()
        let.wait()

    for _ in range(service.limits.searches):
        service.searching.submit(busy)
    begun.wait(30)
    answers = []
    body = {"id": filled[0].ids()[0]}
    waiting = threading.Thread(target=lambda: answers.append(client.post("search", json=body).status_code))
    waiting.start()
    assert client.get("health").status_code == 200 and not answers
    let.set()
    waiting.join(30)
    assert answers == [200]


def test_texts_are_those_of_the_archive(tmp_path, tiny_bundle, tiny_text_bundle, write_phantoms):
    write_phantoms(tmp_path / "images", each=1)
    rows = [f"{path.name},{path.stem.replace('-', ' ')}" for path in sorted((tmp_path / "images").glob("*.png"))]
    (tmp_path / "images" / "texts.csv").write_text("path,text\n" + "\n".join(rows) + "\n")
    with Archive.create(tmp_path / "archive", tiny_bundle, text_bundle=tiny_text_bundle) as archive:
        archive.add(tmp_path / "images" / "texts.csv")
        id, file = archive.ids()[0], tmp_path / "images" / rows[1].split(",")[0]
        collections = Collections([Collection("first", archive.path)])
        app = create_app(collections, Access(OWNER, PEER))
        with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as client:
            for body, uploads, query in (
                ({"id": id, "k": 3}, [], Query(id=id)), ({"id": id, "include_self": True}, [], Query(id=id)),
                ({"k": 4}, [file], Query(image=file)),
            ):  # fmt: skip
                settings = {name: value for name, value in body.items() if name != "id"}
                expected = archive.nearest_texts(query, **settings)
                answer = posted(client, {**body, "texts": True}, uploads)
                assert answer.status_code == 200, answer.text
                assert answer.json()["texts"] == [hit.as_dict() for hit in expected] and len(expected)
                assert answer.json()["receipt"] == json.loads(json.dumps(expected.receipt))
                again = client.post("receipts/repeat", json=answer.json()["receipt"])
                assert again.json()["texts"] == answer.json()["texts"] and not again.json()["warnings"]
        collections.close()
