"""A service over small archives, in the process of the tests."""

import pytest
from starlette.testclient import TestClient

from medlike import Archive
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections

from .dicoms import write_kinds

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


class Kinds:
    """A service over one image of each kind: `get` is the owner's, `ids` and `files` are by kind."""

    def __init__(self, client, archive, files, ids):
        self.client, self.archive, self.files, self.ids = client, archive, files, ids
        self.service, self.get = client.app.state.service, client.get


@pytest.fixture(scope="session")
def kinds(tmp_path_factory, tiny_regional_bundle, encoder):
    """A service over one image of each kind of photometry, by reference; nobody changes it."""
    folder = tmp_path_factory.mktemp("kinds")
    files = write_kinds(folder / "files")
    with Archive.create(folder / "archive", tiny_regional_bundle, encoder=encoder) as archive:
        archive.add(list(files.values()), "reference", "middle", fit="never")
        paths = {source["path"]: id for id, source in archive.sources(archive.ids()).items()}
        collections = Collections([Collection("first", archive.path)])
        app = create_app(collections, Access(OWNER, PEER))
        with TestClient(app, base_url="http://127.0.0.1:8000/api/v1/", headers=as_owner()) as client:
            yield Kinds(client, archive, files, {kind: paths[str(file)] for kind, file in files.items()})
        collections.close()
