"""Bodies of requests, read piece by piece and never beyond a limit."""

from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.requests import ClientDisconnect

from medlike import strict_json
from medlike.errors import QueryError
from medlike.service.problems import Problem
from medlike.types import JsonObject


async def pieces(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield a body as it arrives.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        Problem: It is longer, or its sender has gone.
    """
    too_large = Problem(413, f"the body has more than {limit} bytes: send less at once")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise too_large
            yield piece
    except ClientDisconnect:
        raise Problem(400, "the body ended before its declared end: send it again") from None


async def json_object(request: Request, limit: int) -> JsonObject:
    """Return a body that is an object of JSON.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        Problem: It is longer, or its sender has gone.
        QueryError: It is no object of JSON.
    """
    body = b"".join([piece async for piece in pieces(request, limit)])
    return parsed("the body", body)


def parsed(name: str, text: bytes | str) -> JsonObject:
    """Return the object that a text holds as JSON.

    Args:
        name: What a message calls it.
        text: The text.

    Raises:
        QueryError: It is no object of JSON.
    """
    try:
        value = strict_json.loads(text.decode() if isinstance(text, bytes) else text)
    except ValueError as error:
        raise QueryError(f"{name} is no JSON ({error}): send an object of JSON") from None
    if not isinstance(value, dict):
        raise QueryError(f"{name} is {value!r:.60}: send an object of JSON")
    return value
