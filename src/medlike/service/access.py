"""Who may send a request: tokens, and by which name and from which page a request may come."""

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from medlike.service import problems
from medlike.service.collections import Role
from medlike.service.requests import request_id

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/api/v1/health", "/api/v1/ready")


@dataclass(frozen=True)
class Access:
    """The tokens of one start of the service.

    Attributes:
        owner: The owner's token: random, new with each start, shown in the printed address.
        peer: The token of other services; None if none may ask.
    """

    owner: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    peer: str | None = field(default=None, repr=False)

    def role(self, headers: Headers) -> Role | None:
        """Return whose token a request carries; None for none that is known.

        Args:
            headers: Those of the request.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        if hmac.compare_digest(token.encode(), self.owner.encode()):
            return "owner"
        if self.peer is not None and hmac.compare_digest(token.encode(), self.peer.encode()):
            return "peer"
        return None


class Guard:
    """ASGI middleware: let only requests with a token pass, and note whose it is."""

    def __init__(self, app: "ASGIApp", access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        role = self.access.role(Headers(scope=scope))
        if role is None and scope["path"] not in OPEN:
            detail = "send the token of this service: Authorization: Bearer TOKEN"
            response = problems.problem(401, detail, request_id(scope), headers={"www-authenticate": "Bearer"})
            await response(scope, receive, send)
            return
        scope["medlike.role"] = role or "peer"
        await self.app(scope, receive, send)
