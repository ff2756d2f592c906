"""Archives that a service holds, and clients of it: in the process of the tests, or over a real loopback server."""

import socket
import threading
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tests.archive.conftest import (  # noqa: F401 (fixtures)
    Population,
    archive,
    captioned,
    encoder,
    pictures,
    scan,
    worded,
)  # fmt: skip

from medlike import Archive, Client
from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections
from medlike.service.writer import Writer

OWNER, PEER = "the-owner", "a-peer"
URL = "http://127.0.0.1:8000"
READS = ("search", "search_many", "repeat", "nearest_texts", "browse", "facets", "picture", "ids", "info")


class InProcess(httpx.BaseTransport):
    """Hand the requests of a client to an application of this process, in a thread with an event loop."""

    def __init__(self, app):
        self.asgi = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.context = start_blocking_portal()
        self.portal = self.context.__enter__()

    def handle_request(self, request):
        request.read()

        async def answered():
            response = await self.asgi.handle_async_request(request)
            return response.status_code, response.headers, b"".join([piece async for piece in response.stream])

        status, headers, content = self.portal.call(answered)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(content))

    def close(self):
        self.context.__exit__(None, None, None)


@contextmanager
def application(*folders, names=("first", "second"), port=8000):
    """The application of a service over archives in folders."""
    collections = Collections([Collection(name, path) for name, path in zip(names, folders, strict=False)])
    try:
        yield create_app(collections, Access(OWNER, PEER, port))
    finally:
        collections.close()


@contextmanager
def client_of(*folders, token=OWNER, **settings):
    """A client of a service over archives in folders, all in this process."""
    with application(*folders) as app, Client(URL, token, transport=InProcess(app), **settings) as client:
        yield client


@contextmanager
def served_by_a_server(*folders):
    """The address of a real server on a loopback port, of a service over archives in folders."""
    import uvicorn

    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        app = stack.enter_context(application(*folders, port=port))
        running = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            running.should_exit = True
            thread.join()


@contextmanager
def writing(folder):
    """The writer of an archive, in a thread."""
    stop = threading.Event()
    with Archive.open(folder) as own:
        writer = Writer(own)
        thread = threading.Thread(target=writer.run, args=(stop,))
        thread.start()
        try:
            yield own
        finally:
            stop.set()
            thread.join()
            writer.close()


class Served:
    """An archive whose searches go through a service; whatever else is asked of it goes to the folder."""

    def __init__(self, folder, client):
        self.folder, self.client = folder, client

    def __getattr__(self, name):
        return getattr(self.client if name in READS else self.folder, name)

    def __len__(self):
        return len(self.client)


@pytest.fixture(name="population")
def _population(tmp_path, tiny_bundle):
    """As in the tests of the archive, searched through a service."""
    with Archive.create(tmp_path / "archive", bundle=tiny_bundle) as made, client_of(made.path, sources=True) as client:
        population = Population(made)
        population.archive = Served(made, client)
        yield population


@pytest.fixture(name="worded")
def _worded(worded):  # noqa: F811
    """As in the tests of the archive, searched through a service."""
    with client_of(worded.path, sources=True) as client:
        yield Served(worded, client)
