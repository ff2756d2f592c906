"""Images that come with a search, in files without a name: they end with the request, or with the process."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from medlike.archive.search.query import MOST_IMAGES
from medlike.errors import QueryError
from medlike.service.bodies import parsed, require_declared, too_large
from medlike.service.limits import Limits
from medlike.service.problems import Refusal
from medlike.types import JsonObject

if TYPE_CHECKING:
    from starlette.types import Message

FIELDS = ("request", "image")


def is_multipart(request: Request) -> bool:
    """Return True if a request says that its body is multipart/form-data."""
    return request.headers.get("content-type", "").lower().startswith("multipart/form-data")


@asynccontextmanager
async def uploaded(request: Request, limits: Limits) -> AsyncIterator[tuple[JsonObject, list[Path]]]:
    """Read a multipart body: the JSON object of its field `request`, and where to read its files `image`.

    Args:
        request: The request.
        limits: What is read at most.

    Raises:
        Refusal: The body cannot be read, or is too large.
        QueryError: It has other fields, or none of an image.
    """
    require_declared(request, limits.body)
    size = 0

    async def receive() -> "Message":
        nonlocal size
        message = await request.receive()
        size += len(message.get("body", b""))
        if size > limits.body:
            raise too_large(limits.body)
        return message

    try:
        form = await Request(request.scope, receive).form(
            max_files=2 * MOST_IMAGES, max_fields=8, max_part_size=limits.json
        )
    except ClientDisconnect:
        raise Refusal(400, "the request ended before its body was complete: send it again") from None
    except HTTPException as error:
        detail = f"the multipart body cannot be read ({str(error.detail).rstrip('.')}): send a field request and images"
        raise Refusal(400, detail) from None
    try:
        stated_search = await _request_field(form, limits)
        yield stated_search, [_path(file) for file in form.getlist("image")]
    finally:
        await form.close()


async def _request_field(form: FormData, limits: Limits) -> JsonObject:
    for name in form:
        if name not in FIELDS:
            raise QueryError(f"{name[:80]!r} is not a field of a search: use {' and '.join(FIELDS)}")
    fields = form.getlist("request")
    if len(fields) > 1:
        raise QueryError(f"there are {len(fields)} fields request: send one")
    if not fields:
        return {}
    field = fields[0]
    body = await field.read(limits.json + 1) if isinstance(field, UploadFile) else field.encode()
    return parsed("the field request", body)


def _path(file: object) -> Path:
    """Return a path at which another process of this user can read an uploaded file."""
    if not isinstance(file, UploadFile):
        raise QueryError("a field image does not hold a file: send each image as a file")
    spooled = cast("tempfile.SpooledTemporaryFile[bytes]", file.file)
    spooled.rollover()
    spooled.flush()
    return Path(f"/proc/{os.getpid()}/fd/{spooled.fileno()}")
