"""What goes wrong between client and service: the same errors as in a folder, retries of what is safe, sentences."""

import asyncio
import socket
import sys
import threading

import httpx
import pytest

from medlike import Archive, AsyncClient, Client, MissingExtra, Query
from medlike import errors as tree
from medlike.cluster import transport
from medlike.cluster.exchange import Reply
from medlike.cluster.failures import failure
from medlike.errors import ArchiveError, ArchiveFull, ImageError, InputError, QueryError, UnknownField

from .conftest import OWNER, PEER, URL, InProcess, application, client_of


@pytest.fixture
def filled(archive, pictures):
    archive.add(pictures(4))
    return archive


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (QueryError, lambda at: at.search(Query(id="0" * 32))),
        (QueryError, lambda at: at.search(Query(id="nothing"), k=3)),
        (QueryError, lambda at: at.search(Query(id="0" * 32), k=0)),
        (QueryError, lambda at: at.search(Query(id="0" * 32), colour="red")),
        (UnknownField, lambda at: at.search(Query(text="a"), where={"modalty": "CT"})),
        (UnknownField, lambda at: at.browse({"modalty": "CT"})),
        (QueryError, lambda at: at.browse(limit=0)),
        (QueryError, lambda at: at.browse(prefix="XY")),
        (QueryError, lambda at: at.facets(most=0)),
        (QueryError, lambda at: at.repeat({"generation": 3})),
        (QueryError, lambda at: at.search(Query(id="0" * 32, region=(0, 0, 5, 5)))),
        (QueryError, lambda at: at.nearest_texts(Query(text="effusion"))),
        (InputError, lambda at: at.search(object())),
    ],
)
def test_errors_are_those_of_the_archive(filled, kind, wrong):
    with client_of(filled.path) as client:
        with pytest.raises(kind) as here:
            wrong(filled)
        with pytest.raises(kind) as there:
            wrong(client)
    assert str(there.value) == str(here.value) and type(there.value) is type(here.value)


def test_a_query_file_that_cannot_be_read_is_an_image_error(filled, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with client_of(filled.path) as client:
        with pytest.raises(ImageError) as here:
            filled.search(tmp_path / "text.png")
        with pytest.raises(ImageError) as there:
            client.search(tmp_path / "text.png")
        assert str(here.value) == str(there.value)
        with pytest.raises(ImageError, match="image 2 of 2: "):
            client.search(Query(images=[filled.picture(filled.ids()[0]), tmp_path / "absent.png"]))
        with pytest.raises(InputError, match="no image"):
            client.picture("0" * 32)


def test_every_exception_comes_back_by_its_name():
    for name in vars(tree):
        kind = getattr(tree, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            raised = failure(Reply(500, {}, b'{"error": "%s", "detail": "a sentence"}' % name.encode()), URL)
            assert type(raised) is kind and str(raised) == "a sentence"
    for name in ("Sequence", "INSTALL_TEXT", "Exception", "Unheard"):
        assert type(failure(Reply(500, {}, b'{"error": "%s"}' % name.encode()), URL)) is ArchiveError
    assert type(failure(Reply(404, {}, b'{"detail": "gone"}'), URL)) is InputError
    assert "answered with status 502" in str(failure(Reply(502, {}, b"<html>"), URL))


def test_a_wrong_token_says_where_the_right_one_is(filled, monkeypatch):
    monkeypatch.delenv("MEDLIKE_TOKEN", raising=False)
    for token in ("wrong", None):
        with client_of(filled.path, token=token) as client, pytest.raises(ArchiveError, match="set MEDLIKE_TOKEN"):
            client.info()


def test_another_service_may_search_and_sees_no_sources(filled):
    with client_of(filled.path, token=PEER) as client:
        found = client.search(Query(id=filled.ids()[0]))
        assert [hit.id for hit in found] == [hit.id for hit in filled.search(Query(id=filled.ids()[0]))]
        assert all(hit.source is None for hit in found)
        with pytest.raises(ArchiveError, match="only the owner"):
            client.remove(filled.ids()[0])
    with client_of(filled.path, token=PEER, sources=True) as client, pytest.raises(ArchiveError, match="owner"):
        client.browse()


class Failing(httpx.BaseTransport):
    """Fail as often as it is told to, then hand requests on; count them."""

    def __init__(self, app, *failures):
        self.inner, self.failures, self.seen = InProcess(app), list(failures), []

    def handle_request(self, request):
        self.seen.append(f"{request.method} {request.url.path.removeprefix('/api/v1/')}")
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, int):
                return httpx.Response(failure, headers={"retry-after": "0"})
            raise failure("broken", request=request)
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


@pytest.fixture
def attempts(filled, monkeypatch, pictures):
    """attempts(verb, *failures): how many requests a verb sent, and its error if it ended in one."""
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.0)
    id = filled.ids()[0]
    file = pictures(1, seed=9, name="one") / "0000.png"
    verbs = {
        "info": lambda client: client.info(),
        "search": lambda client: client.search(Query(id=id), k=1),
        "search file": lambda client: client.search(file, k=1),
        "facets": lambda client: client.facets(),
        "repeat": lambda client: client.repeat(client.search(Query(id=id), k=1).receipt),
        "job": lambda client: client.job("verify"),
        "remove": lambda client: client.remove(id),
        "add": lambda client: client.add(file),
    }

    def counted(verb, *failures):
        with application(filled.path) as app:
            failing = Failing(app, *failures)
            with Client(URL, OWNER, transport=failing) as client:
                try:
                    verbs[verb](client)
                except ArchiveError as error:
                    return len(failing.seen), error
            return len(failing.seen), None

    return counted


BROKEN, REFUSED, LATE = httpx.ReadError, httpx.ConnectError, httpx.ReadTimeout


@pytest.mark.parametrize("verb", ["info", "search", "search file", "facets"])
def test_what_only_reads_is_sent_again(attempts, verb):
    for failures in ((BROKEN,), (REFUSED, httpx.RemoteProtocolError), (503,), (502, 504)):
        assert attempts(verb, *failures) == (len(failures) + 1, None)
    count, error = attempts(verb, BROKEN, BROKEN, BROKEN)
    assert count == 3 and "was lost (ReadError)" in str(error) and "may have done" not in str(error)
    count, error = attempts(verb, 503, 503, 503)
    assert count == 3 and "503" in str(error)
    # The service may still be at it: a second request would make it later still.
    count, error = attempts(verb, LATE)
    assert count == 1 and "longer time-out" in str(error)


@pytest.mark.parametrize("verb", ["job", "remove"])
def test_what_writes_is_sent_again_only_if_nothing_was_sent(attempts, verb):
    for broken in (BROKEN, LATE, httpx.WriteError):
        count, error = attempts(verb, broken)
        assert count == 1 and "may have done what was asked" in str(error)
    assert attempts(verb, 503)[0] == 1
    count, error = attempts(verb, REFUSED, REFUSED, REFUSED)
    assert count == 3 and "no service answers at http://127.0.0.1:8000" in str(error)


def test_a_job_is_sent_again_if_nothing_was_sent(attempts):
    assert attempts("job", REFUSED, httpx.ConnectTimeout) == (3, None)


def test_a_receipt_is_repeated_again(attempts):
    assert attempts("repeat", BROKEN) == (3, None)


def test_an_upload_is_sent_again_whole(filled, pictures, monkeypatch):
    from .conftest import writing

    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.0)
    folder = pictures(2, seed=4, name="more")
    with writing(filled.path), application(filled.path) as app:
        failing = Failing(app, BROKEN, REFUSED)
        with Client(URL, OWNER, transport=failing) as client:
            assert client.add(folder).added == 2
    assert failing.seen.count("POST images") == 4 and len(filled) == 6


def test_a_full_disk_ends_an_upload_and_a_large_file_does_not(filled, pictures):
    from medlike.service.limits import Limits

    folder = pictures(3, seed=4, name="more")
    with application(filled.path) as app:
        body = b'{"error": "ArchiveFull", "detail": "the disk is full: free space"}'

        class Full(httpx.BaseTransport):
            def handle_request(self, request):
                return httpx.Response(507, content=body, headers={"content-type": "application/problem+json"})

        with Client(URL, OWNER, transport=Full()) as client, pytest.raises(ArchiveFull, match="free space"):
            client.add(folder)
        app.state.service = type(app.state.service).of(app.state.service.collections, Limits(body=100))
        with Client(URL, OWNER, transport=InProcess(app)) as client:
            with pytest.raises(tree.NothingAdded, match="more than 100 bytes") as raised:
                client.add(folder)
            assert len(raised.value.report.skipped) == 3


def test_a_dead_server_is_told_in_a_sentence(filled):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", OWNER) as client, pytest.raises(ArchiveError) as raised:
        client.info()
    assert str(raised.value) == (
        f"no service answers at http://127.0.0.1:{port}: start one with `medlike serve`, or check the address"
    )

    async def asked():
        async with AsyncClient(f"http://127.0.0.1:{port}", OWNER) as client:
            await client.search(Query(id="0" * 32))

    with pytest.raises(ArchiveError, match="no service answers"):
        asyncio.run(asked())


def test_a_server_that_breaks_off_or_is_none_of_ours_is_told():
    def answering(listening, answers):
        for answer in answers:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answers = (b"", page, b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\nshort", b"", b"")
        thread = threading.Thread(target=answering, args=(listening, answers))
        thread.start()
        with Client(f"http://127.0.0.1:{listening.getsockname()[1]}", OWNER) as client:
            with pytest.raises(ArchiveError, match="the answer is text/html, not JSON"):
                client.info()
            with pytest.raises(ArchiveError, match=r"was lost \(RemoteProtocolError\)"):
                client.info()
        thread.join()


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "medlike.cluster.transport", raising=False)
    import medlike.cluster

    monkeypatch.delattr(medlike.cluster, "transport", raising=False)
    for kind in (Client, AsyncClient):
        with pytest.raises(MissingExtra, match=r"pip install 'medlike\[client\]'"):
            kind(URL)


def test_archive_and_client_are_searchable(filled):
    from medlike.archive.searchable import Searchable

    verbs = {name for name in vars(Searchable) if not name.startswith("_")} | {"__len__"}
    assert verbs > {"search", "browse", "picture"}
    for kind in (Archive, Client):
        assert verbs <= set(dir(kind))
