"""Requests over HTTP for benches: what a request costs its sender is small, so that the service has the cores."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

PATIENCE = 60.0  # seconds that an answer may take


@dataclass(frozen=True)
class Call:
    """A request: its method, its path with the query string, and its body with the content type."""

    method: str
    path: str
    body: bytes = b""
    content_type: str = "application/json"


@dataclass(frozen=True)
class Reply:
    """An answer: its status, its body, and the seconds from the moment at which its request was due."""

    status: int
    body: bytes
    seconds: float


class Connection:
    """One HTTP/1.1 connection that stays open; a request waits for the answer to the one before."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._place = (host, port)
        self._head = f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, call: Call) -> tuple[int, bytes]:
        """Send a request, and return status and body of its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        head = f"{call.method} {call.path} HTTP/1.1\r\n{self._head}"
        if call.body:
            head += f"Content-Type: {call.content_type}\r\nContent-Length: {len(call.body)}\r\n"
        writer.write(head.encode() + b"\r\n" + call.body)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        lines = answer.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(lines[0].split()[1]), body

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass(frozen=True)
class Load:
    """Who sends requests where: host and port of a service, and its token."""

    host: str
    port: int
    token: str

    def connection(self) -> Connection:
        """Return a new connection."""
        return Connection(self.host, self.port, self.token)

    def one_by_one(self, calls: Sequence[Call]) -> list[Reply]:
        """Send requests over one connection, each as soon as the one before is answered."""
        return self.all_at_once([calls])[0]

    def all_at_once(self, by_connection: Sequence[Sequence[Call]]) -> list[list[Reply]]:
        """Send the requests of each connection as `one_by_one` does, all connections at the same time."""

        async def run() -> list[list[Reply]]:
            return list(await asyncio.gather(*(self._series(calls) for calls in by_connection)))

        return asyncio.run(run())

    def paced(self, by_user: Sequence[Sequence[Call]], interval: float) -> list[Reply]:
        """Send a request of each user every `interval` seconds, spread evenly.

        Seconds count from the moment at which a request was due, so that a service that holds requests up does not
        hide how long they waited.
        """

        async def run() -> list[Reply]:
            start = time.perf_counter() + 0.2
            users = [
                self._series(calls, start + interval * user / len(by_user), interval)
                for user, calls in enumerate(by_user)
            ]
            return [reply for replies in await asyncio.gather(*users) for reply in replies]

        return asyncio.run(run())

    async def _series(self, calls: Sequence[Call], start: float = 0.0, interval: float = 0.0) -> list[Reply]:
        connection, replies = self.connection(), []
        try:
            for at, call in enumerate(calls):
                due = time.perf_counter()
                if interval:
                    due = start + at * interval
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                status, body = await connection.send(call)
                replies.append(Reply(status, body, time.perf_counter() - due))
        finally:
            connection.close()
        return replies
