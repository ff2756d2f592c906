"""Bodies that are too large, too slow or broken off, heads that never end, and ten thousand requests at once."""

import asyncio
import json
import socket
import struct
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from medlike.service.access import Access
from medlike.service.app import create_app
from medlike.service.collections import Collection, Collections
from medlike.service.limits import Limits
from medlike.service.protocol import protocol

from .conftest import OWNER

LIMITS = Limits(body=1 << 20, json=1 << 16, body_seconds=0.5, header_seconds=0.5)
REQUESTS, TOGETHER, LONGEST = 10_000, 250, 60  # connections at once, seconds


@pytest.fixture
def service(archive, request):
    """A service with small limits over `archive`, on a port of its own in a thread of this process: its port."""
    limits = getattr(request, "param", LIMITS)
    collections = Collections([Collection("first", archive.path)])
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        port = listening.getsockname()[1]
        config = uvicorn.Config(
            create_app(collections, Access(OWNER, port=port), limits), http=protocol(limits), lifespan="off",
            log_config=None, access_log=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield port
        server.should_exit = True
        thread.join()
    collections.close()


def head(method, path, port, **headers):
    """The head of a request, with the owner's token."""
    lines = [f"{method} /api/v1/{path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {OWNER}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def connected(port):
    """A connection that gives up after 20 seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def answered(connection):
    """The status of an answer, and its body: all that comes until the service closes or the body is whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None, data
        data += more
    top, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return int(top.split()[1]), json.loads(body)


def test_two_gigabytes_are_refused_by_their_length(service):
    with connected(service) as connection:
        connection.sendall(head("POST", "images", service, Content_Length=2 << 30))
        status, problem = answered(connection)
        assert status == 413 and "1" in problem["detail"]


def test_a_body_without_a_length_is_refused_where_it_becomes_too_large(service, archive):
    with connected(service) as connection:
        connection.sendall(head("POST", "images", service, Transfer_Encoding="chunked"))
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        try:
            for _ in range(100):
                connection.sendall(chunk)
        except OSError:
            pass  # it need not read all of it
        status, problem = answered(connection)
        assert status == 413, problem
    assert nothing_received(archive)


def nothing_received(archive):
    """True if no upload has left a file in the archive."""
    return not [file for file in (archive.path / "private" / "spool").rglob("*") if file.is_file()]


def test_an_upload_that_is_broken_off_leaves_nothing(service, archive):
    for _ in range(20):
        with connected(service) as connection:
            connection.sendall(head("POST", "images", service, Content_Length=100_000) + b"x" * 50_000)
            # Closed with a reset, as by a machine that fails.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert status_of(service, "archive") == 200
    assert nothing_received(archive)


def status_of(port, path, method="GET"):
    """The status of a request on a connection of its own."""
    with connected(port) as connection:
        connection.sendall(head(method, path, port))
        return answered(connection)[0]


def test_a_body_that_does_not_come_is_given_up(service, archive):
    with connected(service) as connection:
        connection.sendall(head("POST", "images", service, Content_Length=1000) + b"x")
        status, problem = answered(connection)
        assert status == 408 and "0.5" in problem["detail"]
    assert nothing_received(archive)


def test_heads_that_do_not_end_are_given_up_and_hold_nobody_up(service):
    slow = [socket.create_connection(("127.0.0.1", service), timeout=20) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"GET /api/v1/archive HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
        assert status_of(service, "archive") == 200
        for connection in slow:
            while connection.recv(4096):
                pass  # an answer, if there is one; then the end
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize("service", [Limits()], indirect=True)
def test_ten_thousand_small_requests_are_all_answered(service):
    message, statuses = head("GET", "health", service), []

    async def user():
        reader, writer = await asyncio.open_connection("127.0.0.1", service)
        for _ in range(REQUESTS // TOGETHER):
            writer.write(message)
            top = await reader.readuntil(b"\r\n\r\n")
            length = next(int(each.split(b":")[1]) for each in top.lower().split(b"\r\n") if b"content-length" in each)
            await reader.readexactly(length)
            statuses.append(int(top.split()[1]))
        writer.close()

    async def all_users():
        await asyncio.wait_for(asyncio.gather(*(user() for _ in range(TOGETHER))), LONGEST)

    began = time.monotonic()
    asyncio.run(all_users())
    print(f"{REQUESTS / (time.monotonic() - began):.0f} requests a second")
    assert len(statuses) == REQUESTS and set(statuses) <= {200, 503}
    assert statuses.count(200) > REQUESTS // 2
    assert status_of(service, "archives") == 200
