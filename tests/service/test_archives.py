"""Which archives a service holds, who sees them, and its health."""

import pytest

from medlike.errors import InputError
from medlike.service.collections import Collection, Collections

from .conftest import PEER


def test_lists_the_archives(served, archive):
    assert served.get("archives").json() == {"archives": [{"name": "first", "images": 0, "id": archive.id}]}
    assert served.get("archive").json() == {"name": "first", **archive.info()}


def test_an_unknown_archive_is_a_problem(served):
    response = served.get("archive", params={"archive": "second"}, headers={"x-request-id": "mine"})
    assert response.status_code == 404 and response.headers["content-type"] == "application/problem+json"
    facts = response.json()
    assert facts["request_id"] == response.headers["x-request-id"] == "mine"
    assert facts["detail"] == "this service has no archive 'second': use one of first"


def test_without_a_token_only_health_answers(served):
    for token in ("", "Bearer wrong", "Basic the-owner"):
        assert served.get("archives", headers={"authorization": token}).status_code == 401
        assert served.get("health", headers={"authorization": token}).json() == {"status": "ok"}


def test_a_peer_sees_only_what_is_for_peers(archive, tmp_path):
    closed = Collections([Collection("mine", archive.path, peers=False)])
    with pytest.raises(InputError, match="use one of none"):
        closed.find(None, "peer")
    assert closed.find(None, "owner")[1].id == archive.id
    closed.close()


def test_names_come_from_folders(tmp_path):
    assert Collection.of(str(tmp_path / "Chest CT")).name == "chest-ct"
    assert Collection.of(f"ct={tmp_path}") == Collection("ct", tmp_path)
    with pytest.raises(InputError, match="no name of an archive"):
        Collection.of("C T=x")


def test_a_path_that_is_not_there_is_a_problem(served):
    response = served.get("nothing", headers={"authorization": f"Bearer {PEER}"})
    assert response.status_code == 404 and "/api/v1/openapi.json" in response.json()["detail"]
