"""Pages of stored images, the facts of one, and what caches may keep."""

import gzip
import re

import pytest
import zstandard

from .conftest import PEER
from .dicoms import shades, write_dicom
from .test_pictures import KINDS

SERVER = "http://127.0.0.1:8000"
FORMS = ("", "/rendered", "/thumbnail", "/picture", "/pixels", "/photometry")
AS_PEER = {"authorization": f"Bearer {PEER}"}


def test_pages_follow_each_other(kinds):
    everything = kinds.archive.ids()
    seen, path = [], "images?limit=4"
    while path:
        response = kinds.get(path)
        page = response.json()
        assert page["total"] == len(everything) and page["limit"] == 4
        seen += [image["id"] for image in page["images"]]
        links = dict(reversed(link) for link in re.findall(r'<([^>]+)>; rel="(\w+)"', response.headers.get("link", "")))
        assert ("prev" in links) == (page["offset"] > 0)
        path = SERVER + links["next"] if "next" in links else None
    assert seen == everything
    assert kinds.get("images", params={"offset": 1000}).json()["images"] == []


def test_a_page_says_what_the_archive_says(kinds):
    listing = kinds.archive.browse(limit=3, offset=2)
    page = kinds.get("images", params={"limit": 3, "offset": 2, "sources": True}).json()
    assert page["images"] == [vars(image) for image in listing.images]
    assert all(image["source"]["path"] for image in page["images"])
    assert page["warnings"] == list(listing.warnings)


@pytest.mark.parametrize(
    ("where", "filter"),
    [
        (["modality=CT"], {"modality": "CT"}),
        (["width>=200"], {"width": {"gte": 200}}),
        (["modality=CT", "height<50"], {"modality": "CT", "height": {"lt": 50}}),
        (['{"modality": {"in": ["CT", "MR"]}}'], {"modality": ["CT", "MR"]}),
        (["modality=CT,MR"], {"modality": ["CT", "MR"]}),
    ],
)
def test_a_filter_is_read_as_on_the_command_line(kinds, where, filter):
    page = kinds.get("images", params={"where": where}).json()
    expected = kinds.archive.browse(filter)
    assert 0 < page["total"] == expected.total < len(KINDS)
    assert [image["id"] for image in page["images"]] == [image.id for image in expected.images]


def test_ids_by_their_first_digits(kinds):
    for length in (0, 1, 8, 32):
        for id in kinds.archive.ids()[:3]:
            page = kinds.get("images", params={"ids": id[:length]}).json()
            assert [image["id"] for image in page["images"]] == kinds.archive.ids(id[:length])
    both = kinds.get("images", params={"ids": kinds.ids["grey"][:6], "where": "modality=CT"}).json()
    assert both["total"] == 0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"limit": 0}, "limit is "),
        ({"limit": 1001}, "a page has at most 1000 images"),
        ({"limit": "many"}, "limit is "),
        ({"offset": -1}, "offset is "),
        ({"offset": 1 << 60}, "offset is "),
        ({"ids": "xyz"}, "ids is "),
        ({"ids": "a" * 33}, "ids is "),
        ({"where": "modality"}, "is not a condition"),
        ({"where": "{"}, "is not a condition"),
        ({"where": "(" * 1000}, "is not a condition"),
        ({"where": "{" * 1000}, "is not a condition"),
        ({"where": "x" * 5000}, "where"),
        ({"where": ["modality=CT"] * 33}, "where"),
        ({"where": "colour=red"}, "colour"),
        ({"where": "patient=secret-7", "sort": "id"}, "'sort' is not a parameter of /api/v1/images: use "),
        ({"sources": "perhaps"}, "sources is "),
    ],
)
def test_a_page_that_makes_no_sense_is_refused(kinds, params, sentence):
    response = kinds.get("images", params=params)
    assert response.status_code == 422 and sentence in response.json()["detail"]


def test_facts_and_addresses_of_an_image(kinds):
    id = kinds.ids["frames"]
    facts = kinds.get(f"images/{id}").json()
    links, added = facts.pop("links"), facts.pop("added")
    assert facts == {
        "id": id, "size": [40, 40], "metadata": kinds.archive.facts(id).metadata, "texts": {}, "frame": 1,
        "frames": 3, "pixels": "reference", "spacing": None, "source": None,
    }  # fmt: skip
    assert 1 <= added == kinds.archive.facts(id).added <= kinds.archive.generation
    assert facts["metadata"]["modality"] == "CT" and "secret-7" not in str(facts)
    for address in links.values():
        response = kinds.get(SERVER + address)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "private, max-age=86400, immutable"
        assert kinds.get(SERVER + address.replace("v=", "v=0")).headers["cache-control"] == "private, no-cache"
    named = kinds.get(f"images/{id}", params={"archive": "first"}).json()["links"]
    assert all("?archive=first&v=" in address for address in named.values())


def test_only_the_owner_who_asks_sees_sources(kinds):
    id = kinds.ids["signed"]
    source = kinds.get(f"images/{id}", params={"sources": True}).json()["source"]
    assert source["path"] == str(kinds.files["signed"]) and "sop_uid" in source
    for path in ("images", f"images/{id}"):
        refused = kinds.get(path, params={"sources": True}, headers=AS_PEER)
        assert refused.status_code == 403 and "only to the owner" in refused.json()["detail"]
        for headers in (AS_PEER, {}):
            text = kinds.get(path, headers=headers).text
            assert str(kinds.files["signed"].parent) not in text and source["sop_uid"] not in text


def test_only_the_owner_filters_by_true_patients(kinds):
    assert kinds.get("images", params={"where": "patient=secret-7"}).json()["total"] > 3
    refused = kinds.get("images", params={"where": "patient=secret-7"}, headers=AS_PEER)
    assert refused.status_code == 422 and "cannot be filtered by its true value" in refused.json()["detail"]


@pytest.mark.parametrize("form", FORMS)
def test_what_has_not_changed_is_not_sent_again(kinds, form):
    path = f"images/{kinds.ids['signed']}{form}"
    whole = kinds.get(path)
    tag = whole.headers["etag"]
    assert whole.headers["cache-control"] == "private, no-cache"
    for asked in (tag, f"W/{tag.removeprefix('W/')}", f'"other", {tag}', "*"):
        response = kinds.get(path, headers={"if-none-match": asked})
        assert response.status_code == 304 and response.content == b"" and response.headers["etag"] == tag
    assert kinds.get(path, headers={"if-none-match": '"other"'}).status_code == 200
    assert kinds.get(f"images/{kinds.ids['wide']}{form}").headers["etag"] != tag


@pytest.mark.parametrize("form", FORMS)
def test_head_is_get_without_a_body(kinds, form):
    path = f"images/{kinds.ids['signed']}{form}"
    whole, head = (kinds.client.request(method, path, headers={"accept-encoding": ""}) for method in ("GET", "HEAD"))
    assert head.status_code == 200 and head.content == b""
    without = {name: value for name, value in whole.headers.items() if name != "x-request-id"}
    assert {name: value for name, value in head.headers.items() if name != "x-request-id"} == without


def test_each_parameter_of_a_picture_has_its_own_tag(kinds):
    path = f"images/{kinds.ids['signed']}/rendered"
    choices = ({}, {"window": 9, "level": 1}, {"window": 1, "level": 9}, {"invert": True}, {"size": 64},
               {"format": "webp"}, {"format": "webp", "quality": 9})  # fmt: skip
    tags = [kinds.get(path, params=params).headers["etag"] for params in choices]
    assert len(set(tags)) == len(choices)


def test_an_image_that_was_replaced_has_other_tags(served, archive, tmp_path):
    uid = "1.2.826.0.1.3680043.8.498.1"
    tags = []
    for seed in (1, 2):
        write_dicom(tmp_path / "one.dcm", shades(0, 900, seed=seed).astype("u2"), SOPInstanceUID=uid)
        archive.add(tmp_path / "one.dcm", fit="never")
        (id,) = archive.ids()
        tags.append([served.get(f"images/{id}{form}").headers["etag"] for form in FORMS[1:]])
    assert not set(tags[0]) & set(tags[1])


@pytest.mark.parametrize("id", ["0" * 32, "x", "A" * 32, "..%2f..", "%00", "%f0%9f%92%a9", "a" * 120])
def test_an_unknown_id_is_not_found(kinds, id):
    for form in FORMS:
        response = kinds.get(f"images/{id}{form}")
        assert response.status_code == 404, response.text
    assert kinds.get(f"images/{'a' * 129}").status_code == 422


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_large_answers_are_compressed(kinds, coding):
    path = f"images/{kinds.ids['wide']}/photometry"
    plain = kinds.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers and plain.headers["vary"] == "accept-encoding"
    with kinds.client.stream("GET", path, headers={"accept-encoding": f"br, {coding}"}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-encoding"] == coding and response.headers["vary"] == "accept-encoding"
    undone = gzip.decompress(raw) if coding == "gzip" else zstandard.ZstdDecompressor().decompress(raw)
    assert undone == plain.content and int(response.headers["content-length"]) == len(raw) < len(undone) / 3
    for small in (f"images/{kinds.ids['wide']}", f"images/{kinds.ids['grey']}/rendered"):
        assert "content-encoding" not in kinds.get(small, headers={"accept-encoding": coding}).headers


def test_the_description_knows_every_route(kinds):
    paths = kinds.get("openapi.json").json()["paths"]
    for form in ("", *FORMS, "/agreement"):
        route = paths[f"/api/v1/images/{{id}}{form}"]["get"]
        assert route["summary"] and route["description"].endswith(".") and "200" in route["responses"]
    assert {"limit", "offset", "where", "ids", "sources", "archive"} == {
        each["name"] for each in paths["/api/v1/images"]["get"]["parameters"]
    }
