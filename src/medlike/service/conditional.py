"""Answers that caches keep: ETags, 304, ranges of bytes, and HEAD beside GET."""

import hashlib
import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from medlike import __version__
from medlike.service.problems import Refusal

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_RANGE = re.compile(r"\s*bytes\s*=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?"([^"]*)"')
#: Seconds for which a cache may keep what its address names by content.
KEPT = 86_400


def readable(router: APIRouter, path: str, **facts: Any) -> Callable[[Endpoint], Endpoint]:
    """Register a function for GET, and for HEAD, which answers with the same head and no body.

    Args:
        router: The router.
        path: The path.
        **facts: For the API's description, as FastAPI takes them.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        def head(*arguments: Any, **values: Any) -> Response:
            return _bare(endpoint(*arguments, **values))

        @wraps(endpoint)
        async def head_awaited(*arguments: Any, **values: Any) -> Response:
            return _bare(await endpoint(*arguments, **values))

        awaited = inspect.iscoroutinefunction(endpoint)
        router.add_api_route(path, endpoint, methods=["GET"], **facts)
        router.add_api_route(path, head_awaited if awaited else head, methods=["HEAD"], include_in_schema=False)
        return endpoint

    return register


def _bare(response: Response) -> Response:
    """Return the head of an answer."""
    bare = Response(status_code=response.status_code)
    bare.raw_headers = response.raw_headers
    return bare


def entity_tag(*parts: object) -> str:
    """Return a strong ETag of everything that a representation depends on; medlike's version is added.

    Args:
        *parts: What it depends on, each with a text of its own.
    """
    digest = hashlib.sha256("\n".join(map(str, (__version__, *parts))).encode())
    return f'"{digest.hexdigest()[:32]}"'


def cached(request: Request, tag: str, stamp: str | None = None) -> dict[str, str]:
    """Return the headers by which the sender's own cache keeps an answer.

    It asks again each time, unless the address names the content by its stamp (`v`).

    Args:
        request: The request.
        tag: The ETag.
        stamp: What `v` must be.
    """
    by_content = stamp is not None and request.query_params.get("v") == stamp
    return {"etag": tag, "cache-control": f"private, max-age={KEPT}, immutable" if by_content else "private, no-cache"}


def unchanged(request: Request, headers: dict[str, str]) -> Response | None:
    """Return 304 if the sender has this representation already, else None.

    Args:
        request: The request.
        headers: Those of the answer, with its ETag.
    """
    given = request.headers.get("if-none-match")
    if given is None:
        return None
    bare = headers["etag"].removeprefix("W/").strip('"')
    if given.strip() == "*" or bare in _TAG.findall(given):
        return Response(status_code=304, headers=headers)
    return None


def byte_range(request: Request, size: int, tag: str) -> slice | None:
    """Return the bytes that a request is about; None for all of them.

    Args:
        request: The request.
        size: Bytes that there are.
        tag: The strong ETag; with another one in If-Range all bytes are meant.

    Raises:
        Refusal: The range lies outside, is none, or there are several.
    """
    given = request.headers.get("range")
    if given is None or not given.strip().lower().startswith("bytes"):
        return None
    if request.headers.get("if-range", tag) != tag:
        return None
    match = _RANGE.fullmatch(given)
    if match is None:
        detail = f"range {given[:80]!r} is not one range of bytes: ask for one, such as bytes=0-65535"
        raise Refusal(416, detail, {"content-range": f"bytes */{size}"})
    first, last, final = (None if text is None else int(text) for text in match.groups())
    if first is None:
        start, stop = max(0, size - int(final or 0)), size
    else:
        start, stop = first, size if last is None else min(last + 1, size)
    if start >= stop:
        detail = f"range {given[:80]!r} lies outside of the {size} bytes: ask for one from 0 to {size - 1}"
        raise Refusal(416, detail, {"content-range": f"bytes */{size}"})
    return slice(start, stop)
