"""What holds for every request: its id, the headers of every answer, and errors as problem+json."""

import logging
import re
import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from medlike.service import problems

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("medlike.service")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def request_id(scope: "Scope") -> str:
    """Return the id of a request: the sender's `X-Request-ID`, or a new one."""
    if "medlike.request_id" not in scope:
        given = Headers(scope=scope).get("x-request-id", "")
        scope["medlike.request_id"] = given if _ID.fullmatch(given) else secrets.token_hex(8)
    return str(scope["medlike.request_id"])


class Requests:
    """ASGI middleware: give every request an id, every answer its headers, and every error a problem+json."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        id, begun = request_id(scope), False

        async def sending(message: "Message") -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if begun:
                raise
            owner = scope.get("medlike.role") == "owner"
            response = problems.of_error(error, id, shown=owner)
            if response.status_code == 500:
                log.exception("request %s failed", id)
            elif not owner and problems.tells_of_folders(error):
                log.warning("request %s: %s", id, error)
            await response(scope, receive, sending)
