"""Sizes, times and numbers of requests, over real connections to a server with small limits."""

import json
import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from medlike.service import protocol
from medlike.service.bounds import Bounds
from medlike.service.limits import Limits
from medlike.service.requests import Requests

LIMITS = Limits(
    body=3 << 20, json=1000, body_seconds=0.3, header_seconds=0.3, requests=2, connections=4, address=300, head=2000
)


class Held:
    """Requests that wait in a route until they are released."""

    def __init__(self):
        self.entered, self.release = threading.Semaphore(0), threading.Event()


@pytest.fixture
def server():
    """Yield the port of a server, and what holds requests to /hold."""
    held = Held()

    async def read(request):
        try:
            return Response(str(len(await request.body())))
        except Exception:
            # As FastAPI does with whatever happens while it reads a body.
            return Response("unreadable", 400)

    def hold(request):
        held.entered.release()
        held.release.wait(20)
        return Response("held")

    async def large(request):
        return Response(bytes(64 << 20))

    async def ignore(request):
        return Response("ignored")

    routes = [Route("/", read, methods=["GET", "POST"]), Route("/hold", hold)]
    routes += [Route("/ignore", ignore, methods=["POST"]), Route("/large", large)]
    app = Starlette(routes=routes, middleware=[Middleware(Requests), Middleware(Bounds, limits=LIMITS)])
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol.protocol(LIMITS), ws="none", lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    yield listening.getsockname()[1], held
    held.release.set()
    running.should_exit = True
    thread.join()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def answer(connection):
    """Return status, headers and body of the next answer; None where the connection ends without one."""
    read = connection.makefile("rb")
    line = read.readline()
    if not line:
        return None
    headers = {}
    while (header := read.readline().strip()) != b"":
        name, _, value = header.decode().partition(": ")
        headers[name.lower()] = value
    return int(line.split()[1]), headers, read.read(int(headers["content-length"]))


def ask(port, head, body=b""):
    with connected(port) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        return answer(connection)


def problem_of(answered, status):
    assert answered is not None and answered[0] == status, answered
    assert answered[1]["content-type"] == "application/problem+json"
    facts = json.loads(answered[2])
    assert facts["status"] == status and facts["title"]
    return facts["detail"]


HEAD = "POST / HTTP/1.1\nhost: a"


def test_what_fits_passes(server):
    assert ask(server[0], f"{HEAD}\ncontent-length: {3 << 20}", b"x" * (3 << 20))[2] == b"%d" % (3 << 20)
    assert ask(server[0], f"{HEAD}\ncontent-type: application/json\ncontent-length: 1000", b"x" * 1000)[2] == b"1000"


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(server):
    assert f"at most {3 << 20}" in problem_of(ask(server[0], f"{HEAD}\ncontent-length: {2 << 30}"), 413)
    kind = "content-type: Application/JSON; charset=utf-8"
    assert "at most 1000" in problem_of(ask(server[0], f"{HEAD}\n{kind}\ncontent-length: 1001"), 413)


def test_an_encoded_body_is_refused(server):
    for encoding in ("gzip", "zstd"):
        said = problem_of(ask(server[0], f"{HEAD}\ncontent-encoding: {encoding}\ncontent-length: 1", b"x"), 415)
        assert f"the body is sent as {encoding}: send it without" in said
    assert ask(server[0], f"{HEAD}\ncontent-encoding: identity\ncontent-length: 1", b"x")[2] == b"1"


def test_a_body_that_grows_too_large_is_refused(server):
    with connected(server[0]) as connection:
        connection.sendall(f"{HEAD}\ntransfer-encoding: chunked\n\n".replace("\n", "\r\n").encode())
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(100):
            connection.sendall(chunk)
        assert "at most" in problem_of(answer(connection), 413)


def test_a_refused_body_is_not_waited_for(server, monkeypatch):
    monkeypatch.setattr(protocol, "LINGER", 0.2)
    with connected(server[0]) as connection:
        connection.sendall(f"POST /ignore HTTP/1.1\r\nhost: a\r\ncontent-length: {3 << 20}\r\n\r\n".encode())
        assert answer(connection)[2] == b"ignored"
        # A byte now and then would keep other servers at it.
        with pytest.raises(ConnectionError):
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)


def test_an_answer_that_nobody_takes_is_given_up(server):
    with connected(server[0]) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        while True:
            connection.sendall(b"x")
            time.sleep(0.01)


def test_an_answer_that_is_taken_slowly_is_given_whole(server):
    with connected(server[0]) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        size = 0
        while part := connection.recv(4 << 20):
            size += len(part)
            time.sleep(0.01)
    assert size > 64 << 20


def test_a_slow_body_is_given_up(server):
    detail = problem_of(ask(server[0], f"{HEAD}\ncontent-length: 1000", b"x"), 408)
    assert detail.startswith("the body did not arrive within 0.3 s")


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "])
def test_a_slow_head_is_given_up(server, start):
    with connected(server[0]) as connection:
        connection.sendall(start)
        detail = problem_of(answer(connection), 408)
    assert "head of the request did not arrive" in detail


def test_a_head_that_drips_is_given_up(server):
    with connected(server[0]) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n")
        while True:
            connection.sendall(b"x: y\r\n")
            time.sleep(0.01)


def test_the_second_head_on_a_connection_must_come_in_time_too(server):
    with connected(server[0]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert answer(connection)[0] == 200
        connection.sendall(b"GET /")
        problem_of(answer(connection), 408)


def test_long_addresses_and_heads_are_refused(server):
    assert "at most 300" in problem_of(ask(server[0], f"GET /?{'a' * 400} HTTP/1.1\nhost: a"), 414)
    assert "at most 2000" in problem_of(ask(server[0], f"GET / HTTP/1.1\nhost: a\nx: {'a' * 3000}"), 431)
    with connected(server[0]) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 70_000)
        problem_of(answer(connection), 431)


def test_what_is_no_request_is_refused(server):
    problem_of(ask(server[0], "this is\nno HTTP"), 400)
    with connected(server[0]) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno number\r\n")
        problem_of(answer(connection), 400)


def test_too_many_requests_at_once_are_told_to_come_back(server):
    port, held = server
    with connected(port) as first, connected(port) as second:
        for each in (first, second):
            each.sendall(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
            assert held.entered.acquire(timeout=10)
        refused = ask(port, "GET / HTTP/1.1\nhost: a")
        assert "2 requests" in problem_of(refused, 503) and refused[1]["retry-after"] == "1"
        held.release.set()
        assert answer(first)[0] == answer(second)[0] == 200
        assert ask(port, "GET / HTTP/1.1\nhost: a")[0] == 200


def test_too_many_connections_are_told_to_come_back(server):
    held = [connected(server[0]) for _ in range(LIMITS.connections)]
    with connected(server[0]) as connection:
        answered = answer(connection)
    assert "4 connections" in problem_of(answered, 503) and answered[1]["retry-after"] == "1"
    for each in held:
        each.close()
