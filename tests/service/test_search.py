"""POST search: every key, every refusal, and the same results as in the process."""

import pytest

from medlike import Query

from .conftest import PEER


@pytest.fixture
def filled(archive, tmp_path, write_phantoms):
    """The archive with some drawn images."""
    write_phantoms(tmp_path / "images", each=4)
    archive.add(tmp_path / "images", pixels="copy")
    return archive


def comparable(facts):
    return {name: value for name, value in facts.items() if name not in ("seconds", "summary", "unjudged", "encoded")}


def test_a_search_by_id_is_that_of_the_archive(served, filled):
    id = filled.ids()[3]
    response = served.post("search", json={"id": id, "k": 5, "parts": ["agreement"], "sources": True})
    assert response.status_code == 200, response.text
    assert comparable(response.json()) == comparable(filled.search(Query(id=id), k=5).to_dict())


def test_sources_are_shown_to_the_owner_only(served, filled):
    body = {"id": filled.ids()[0], "k": 2}
    assert all(hit["source"] is None for hit in served.post("search", json=body).json()["hits"])
    shown = served.post("search", json=body | {"sources": True}).json()["hits"]
    assert all(hit["source"]["path"].endswith(".png") for hit in shown)
    as_peer = {"authorization": f"Bearer {PEER}"}
    assert served.post("search", json=body | {"sources": True}, headers=as_peer).status_code == 403
    assert served.post("search", json=body, headers=as_peer).json()["hits"][0]["source"] is None
