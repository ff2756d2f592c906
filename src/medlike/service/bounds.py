"""What a request may take: its address, its head, its body and the time of it, and how many there are at once."""

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from medlike.service.limits import Limits
from medlike.service.problems import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_RENEWED = 1 << 20  # bytes after which the clock of a body begins again


class Bounds:
    """ASGI middleware: refuse what is larger or slower than the limits, before it is in memory."""

    def __init__(self, app: "ASGIApp", limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._requests = 0

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self._requests >= self.limits.requests:
            raise Refusal(503, f"this process holds {self.limits.requests} requests: try again in a second")
        body = BoundedBody(receive, self._largest(scope), self.limits.body_seconds)
        body.require(Headers(scope=scope).get("content-length"))
        encoding = Headers(scope=scope).get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise Refusal(
                415, f"the body is sent as {encoding[:40]}: send it without Content-Encoding",
                {"accept-encoding": "identity"},
            )  # fmt: skip
        begun = False

        async def sending(message: "Message") -> None:
            nonlocal begun
            # Whatever the application makes of a body that broke off, the reason is the answer.
            if body.refusal is None or begun:
                begun = True
                await send(message)

        self._requests += 1
        try:
            await self.app(scope, body.receive, sending)
        except Exception:
            if body.refusal is None or begun:
                raise
        finally:
            self._requests -= 1
        if body.refusal is not None and not begun:
            raise body.refusal

    def _largest(self, scope: "Scope") -> int:
        """Return the most bytes of the body of a request; refuse one whose head is too large."""
        limits = self.limits
        address = len(scope.get("raw_path", b"")) + len(scope["query_string"])
        if address > limits.address:
            raise Refusal(414, f"the address has {address} bytes, at most {limits.address} are accepted: shorten it")
        head = sum(len(name) + len(value) for name, value in scope["headers"])
        if head > limits.head:
            raise Refusal(431, f"the headers have {head} bytes, at most {limits.head} are accepted: send fewer")
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        return limits.json if kind == "application/json" else limits.body


class BoundedBody:
    """The body of a request, as far as the limits let it in.

    Attributes:
        refusal: Why the rest was not read; None if all was.
    """

    def __init__(self, receive: "Receive", most: int, seconds: float) -> None:
        self._receive, self._most, self._seconds = receive, most, seconds
        self._left, self._size, self._renewed, self._ended = seconds, 0, 0, False
        self.refusal: Refusal | None = None

    def require(self, length: str | None) -> None:
        """Raise Refusal if a body that says its length is too long."""
        if length is not None and length.isdecimal() and int(length) > self._most:
            raise self._too_large(int(length))

    async def receive(self) -> "Message":
        """Return the next part of the body. Raises Refusal if it is too much or too late."""
        if self.refusal is not None:
            raise self.refusal
        if self._ended:
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._seconds:g} s for each megabyte: send it faster"
            self.refusal = Refusal(408, detail)
            raise self.refusal from None
        self._left -= time.monotonic() - began
        self._size += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._size > self._most:
            self.refusal = self._too_large(self._size)
            raise self.refusal
        if self._size >= self._renewed + _RENEWED:
            self._left, self._renewed = self._seconds, self._size
        return message

    def _too_large(self, size: int) -> Refusal:
        return Refusal(413, f"the body has {size} bytes or more, at most {self._most} are accepted: send less")
