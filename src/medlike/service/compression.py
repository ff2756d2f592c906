"""Content codings: which one a request prefers, and answers in JSON under it."""

import re
import zlib
from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Content codings, the preferred one first.
CODINGS = ("zstd", "gzip")
#: Media types of answers that are compressed.
COMPRESSED = ("application/json", "application/problem+json")
#: Bytes from which an answer is compressed, and from which another thread does so.
LEAST, LARGE = 2048, 256 << 10
_WEIGHT = re.compile(r"\s*q\s*=\s*(\d(?:\.\d*)?)\s*")


def coding(headers: Headers) -> str | None:
    """Return the content coding that a request prefers among `CODINGS`, None for none.

    Args:
        headers: Those of the request.
    """
    accepted = headers.get("accept-encoding")
    if not accepted:
        return None
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, semicolon, parameters = part.partition(";")
        weight = _WEIGHT.fullmatch(parameters)
        weights[name.strip()] = 1.0 if not semicolon else 0.0 if weight is None else float(weight[1])
    offered = [(weights.get(name, weights.get("*", 0.0)), -at, name) for at, name in enumerate(CODINGS)]
    weight_of_best, _, name = max(offered)
    return name if weight_of_best > 0 else None


def encoded(data: bytes, coding: str) -> bytes:
    """Return data under a content coding.

    Args:
        data: The data.
        coding: One of `CODINGS`.
    """
    if coding == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(data)
    return zlib.compress(data, 1, wbits=31)


class Compression:
    """ASGI middleware: compress whole answers in JSON. What is sent piece by piece, such as events, passes."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def sending(message: "Message") -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                if headers.get("content-type", "") in COMPRESSED and "content-encoding" not in headers:
                    start = message  # until the first piece tells whether it is the only one
                    return
            elif start is not None:
                await send(await _compressed(start, message, scope))
                start = None
            await send(message)

        await self.app(scope, receive, sending)


async def _compressed(start: "Message", message: "Message", scope: "Scope") -> "Message":
    """Compress the one piece of an answer in place, if it is worth it; returns the head that announces it."""
    headers = MutableHeaders(raw=list(start["headers"]))
    headers.add_vary_header("accept-encoding")
    body, chosen = message.get("body", b""), coding(Headers(scope=scope))
    if chosen is not None and len(body) >= LEAST and not message.get("more_body", False):
        if len(body) >= LARGE:
            message["body"] = await to_thread.run_sync(encoded, body, chosen)
        else:
            message["body"] = encoded(body, chosen)
        headers["content-encoding"] = chosen
        headers["content-length"] = str(len(message["body"]))
    return {**start, "headers": headers.raw}
