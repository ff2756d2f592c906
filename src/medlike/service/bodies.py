"""Bodies of requests, read piece by piece and never beyond a limit."""

from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.requests import ClientDisconnect

from medlike import strict_json
from medlike.errors import QueryError
from medlike.service.problems import Refusal
from medlike.types import JsonObject


async def pieces(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        Refusal: It is longer, or its sender has gone.
    """
    require_declared(request, limit)
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large(limit)
            yield piece
    except ClientDisconnect:
        raise Refusal(400, "the body ended before its declared end: send it again") from None


async def json_object(request: Request, limit: int) -> JsonObject:
    """Return a body that is an object of JSON.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        Refusal: It is longer, or its sender has gone.
        QueryError: It is not a JSON object.
    """
    return parsed("the body", await read_body(request, limit))


async def read_body(request: Request, limit: int) -> bytes:
    """Return a body.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        Refusal: It is longer, or its sender has gone.
    """
    return b"".join([piece async for piece in pieces(request, limit)])


def require_declared(request: Request, limit: int) -> None:
    """Raise Refusal 413 if a request says that its body is longer than a limit in bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Refusal:
    """Return the error of a body that is longer than a limit in bytes."""
    return Refusal(413, f"the body has more than {limit} bytes: send less at once", {"connection": "close"})


def parsed(name: str, text: bytes | str) -> JsonObject:
    """Return the object that a text holds as JSON.

    Args:
        name: What a message calls it.
        text: The text.

    Raises:
        QueryError: It is not a JSON object.
    """
    try:
        value = strict_json.loads(text)
    except ValueError as error:
        raise QueryError(f"{name} cannot be used, {error}: send a JSON object") from None
    if not isinstance(value, dict):
        raise QueryError(f"{name} is {value!r:.60}: send a JSON object")
    return value
