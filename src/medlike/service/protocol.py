"""HTTP on a connection, within limits that uvicorn does not have: slow heads and readers, refused bodies, number."""

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from medlike.service.limits import Limits
from medlike.service.problems import MEDIA_TYPE, TITLES

#: Seconds in which the rest of a refused body is thrown away, so that its sender reads the refusal.
LINGER = 5.0
#: Bytes of an answer that its receiver must take in the seconds that the limits give a body.
_TAKEN = 1 << 20
DETAILS = {
    400: "what arrived is not an HTTP request",
    408: "the head of the request did not arrive within {seconds:g} s: send it at once",
    431: "the head of the request is too large: send fewer or shorter headers",
    503: "this service holds {connections} connections: try again in a second",
}


def protocol(limits: Limits) -> type[H11Protocol]:
    """Return uvicorn's protocol with the limits of a service.

    Args:
        limits: Of these the seconds of a head, and the connections.
    """

    class Bounded(BoundedProtocol):
        limits_of_service = limits

    return Bounded


class BoundedProtocol(H11Protocol):
    """A connection whose heads must arrive in time, and whose refused bodies are not waited for."""

    limits_of_service = Limits()
    _head: asyncio.TimerHandle | None = None
    _rest: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.limits_of_service.connections:
            self._refuse(503)
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock of a head begins with its first byte and ends with its last."""
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self._await_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head = _cancelled(self._head)
        if self.conn.their_state is not h11.SEND_BODY:
            self._rest = _cancelled(self._rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """End all clocks."""
        self._head, self._rest = _cancelled(self._head), _cancelled(self._rest)
        self._reader = _cancelled(self._reader)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Throw away what still comes of a body that nobody reads, for a while."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and self._rest is None:
            self._rest = self.loop.call_later(LINGER, self.transport.abort)

    def pause_writing(self) -> None:
        """Begin to wait until the receiver has taken more of an answer."""
        super().pause_writing()
        self._await_reader(None)

    def resume_writing(self) -> None:
        """End the clock of a receiver that has taken enough."""
        self._reader = _cancelled(self._reader)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 does not understand, with the status that it names."""
        error = sys.exc_info()[1]
        self._refuse(getattr(error, "error_status_hint", 400))

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self.limits_of_service.header_seconds, self._refuse, 408)

    def _await_reader(self, before: int | None) -> None:
        left = self.transport.get_write_buffer_size()
        if before is not None and before - left < _TAKEN:
            self.transport.abort()
        else:
            self._reader = self.loop.call_later(self.limits_of_service.body_seconds, self._await_reader, left)

    def _refuse(self, status: int) -> None:
        """Answer what is no request yet with a problem, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            self.transport.write(self._problem(status))
        self.transport.close()

    def _problem(self, status: int) -> bytes:
        limits = self.limits_of_service
        detail = DETAILS.get(status, DETAILS[400]).format(
            seconds=limits.header_seconds, connections=limits.connections
        )
        body = json.dumps({"type": "about:blank", "title": TITLES[status], "status": status, "detail": detail})
        waiting = "retry-after: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\ncache-control: no-store\r\n{waiting}connection: close\r\n\r\n"
        )
        return (head + body).encode("ascii")


def _cancelled(clock: asyncio.TimerHandle | None) -> Any:
    if clock is not None:
        clock.cancel()
    return None
