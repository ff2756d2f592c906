"""Which archives a service holds, who sees them, and its health."""

import json
import os

import pytest

from medlike.errors import ArchiveLocked, BundleError, ImageError, InputError, QueryError, TextNotInstalled
from medlike.service import problems
from medlike.service.collections import Collection, Collections

from .conftest import PEER


def test_lists_the_archives(served, archive):
    assert served.get("archives").json() == {"archives": [{"name": "first", "images": 0, "id": archive.id}]}
    assert served.get("archive").json() == {"name": "first", **archive.info()}
    as_peer = served.get("archive", headers={"authorization": f"Bearer {PEER}"}).json()
    assert "refused" in archive.info() and "refused" not in as_peer and as_peer["images"] == 0


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
    with pytest.raises(InputError, match="not a name for an archive"):
        Collection.of("C T=x")


def test_a_path_that_is_not_there_is_a_problem(served):
    response = served.get("nothing", headers={"authorization": f"Bearer {PEER}"})
    assert response.status_code == 404 and "/api/v1/openapi.json" in response.json()["detail"]


def test_only_the_owner_is_told_of_folders(served, archive, caplog):
    """A damaged archive: other services learn that there is trouble, the log learns what."""
    os.truncate(archive.path / "store.sqlite", 100)
    (archive.path / "store.sqlite-wal").unlink(missing_ok=True)
    owner = served.get("facets")
    assert owner.status_code == 500 and str(archive.path) in owner.json()["detail"]
    caplog.clear()
    peer = served.get("facets", headers={"authorization": f"Bearer {PEER}", "x-request-id": "from-a-peer"})
    assert peer.status_code == 500 and peer.json()["error"] == owner.json()["error"]
    assert peer.json()["detail"].startswith("the archive cannot be used: ask the owner")
    assert "/" not in peer.json()["detail"] and "request from-a-peer" in peer.json()["detail"]
    assert "from-a-peer" in caplog.text and str(archive.path) in caplog.text
    ready = served.get("ready", headers={"authorization": ""})
    assert ready.status_code == 503 and "first" not in ready.text


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ArchiveLocked("/data/archive is being written"), False),
        (BundleError("the bundle is missing"), False),
        (ImageError("/data/patients/doe.dcm: it is cut off"), False),
        (ImageError("it is cut off"), True),
        (QueryError("'k' is no parameter of /api/v1/images: use limit"), True),
        (TextNotInstalled(), True),
    ],
)
def test_what_speaks_of_the_request_is_told_to_all(error, told):
    detail = json.loads(problems.of_error(error, "1").body)["detail"]
    assert (detail == str(error)) == told
    assert json.loads(problems.of_error(error, "1", shown=True).body)["detail"] == str(error)
