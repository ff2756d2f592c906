"""A service over small archives, in the process of the tests."""

import pytest
from starlette.testclient import TestClient

from medlike import Archive
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections

OWNER, PEER = "the-owner", "a-peer"


def as_owner():
    return {"authorization": f"Bearer {OWNER}"}


@pytest.fixture(scope="session")
def encoder(tiny_regional_bundle):
    """The tiny regional bundle, loaded once."""
    from medlike.inference import Encoder

    with Encoder(tiny_regional_bundle, threads=1) as loaded:
        yield loaded


@pytest.fixture
def archive(tmp_path, tiny_regional_bundle, encoder):
    """An empty archive under the tiny regional bundle."""
    with Archive.create(tmp_path / "archive", tiny_regional_bundle, encoder=encoder) as made:
        yield made


@pytest.fixture
def served(archive):
    """A client of a service over `archive`, with the owner's token: httpx's verbs on paths below /api/v1."""
    collections = Collections([Collection("first", archive.path)])
    app = create_app(collections, Access(OWNER, PEER))
    with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as client:
        yield client
    collections.close()
