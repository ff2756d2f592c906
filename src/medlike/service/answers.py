"""JSON answers."""

import json
from collections.abc import Mapping

from starlette.responses import Response

from medlike.types import Json


def answer(value: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as JSON; nobody may cache it unless `headers` say otherwise.

    Args:
        value: The value; floats are written so that they are read as the same ones.
        status: HTTP status.
        headers: More headers.
    """
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, {"cache-control": "no-store", **(headers or {})}, "application/json")
