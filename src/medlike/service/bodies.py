"""Reading the body of a request: bounded in size, strict about what JSON is."""

from collections.abc import AsyncGenerator

from starlette.requests import ClientDisconnect, Request

from medlike import strict_json
from medlike.errors import QueryError
from medlike.service.problems import Problem
from medlike.types import JsonObject


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request.

    Args:
        request: The request.
        most: The most bytes that are read.

    Raises:
        Problem: 413 if there are more, 400 if the sender went away.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise too_large(most)
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large(most)
            chunks.append(chunk)
    except ClientDisconnect:
        raise Problem(400, "the request ended before its body was complete: send it again") from None
    return b"".join(chunks)


def too_large(most: int) -> Problem:
    """Return the error of a body that is larger than a limit, in bytes."""
    return Problem(413, f"the body has more than {most:,} bytes, the limit: send less", {"connection": "close"})


def json_object(body: bytes, most: int) -> JsonObject:
    """Return the JSON object of a body.

    Args:
        body: The body.
        most: The most bytes that are read.

    Raises:
        Problem: 400 if it is no JSON, or is beyond the limits of `strict_json`; 422 if it is no object.
    """
    try:
        value = strict_json.loads(body, most)
    except strict_json.Unreadable as error:
        raise Problem(400, f"the body cannot be read: {error}; send a JSON object") from None
    if not isinstance(value, dict):
        raise Problem(422, f"the body is {type(value).__name__}: send a JSON object")
    return value


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


async def json_object_of(request: Request, limit: int) -> JsonObject:
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
