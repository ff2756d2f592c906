"""Who may send a request: tokens, and by which name and from which page a request may come."""

import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from medlike.service import pages, problems
from medlike.service.collections import Role
from medlike.service.plan import LOOPBACK
from medlike.service.requests import request_id

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/api/v1/health", "/api/v1/ready")
_SAFE = ("GET", "HEAD", "OPTIONS")
_STANDARD = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Access:
    """The tokens of one start of the service, and the address that it answers to.

    Attributes:
        owner: The owner's token: random, new with each start, shown in the printed address. None where only other
            services may ask; there are no pages then.
        peer: The token of other services; None if none may ask.
        port: The port of the address.
        loopback: True if requests must name this machine by one of its own names, so that no page of another site can
            reach the service under a name of that site.
        scheme: http or https.
    """

    owner: str | None = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    peer: str | None = field(default=None, repr=False)
    port: int = 8000
    loopback: bool = True
    scheme: str = "http"

    @property
    def cookie(self) -> str:
        """Return the name of the cookie; cookies know no ports, so it tells this service from others."""
        return f"medlike-{self.port}"

    def role(self, headers: Headers) -> Role | None:
        """Return whose token a request carries; None for none that is known.

        Args:
            headers: Those of the request.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            if _equal(token, self.owner):
                return "owner"
            if _equal(token, self.peer):
                return "peer"
            return None
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return "owner" if not kind and _equal(cookie, self.owner) else None

    def opens(self, scope: "Scope") -> bool:
        """Return True if a request is the printed address: the page with the owner's token."""
        if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            return False
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get("token", [""])
        return _equal(given[0], self.owner)

    def refusal(self, scope: "Scope") -> str | None:
        """Return why a request may not come by this name or from this page, None if it may.

        Args:
            scope: The request.
        """
        headers = Headers(scope=scope)
        if self.loopback:
            names = {f"{name}:{self.port}" for name in LOOPBACK}
            if self.port == _STANDARD[self.scheme]:
                names |= set(LOOPBACK)
            if headers.get("host", "").lower() not in names:
                return f"this service answers only to 127.0.0.1, localhost and [::1] with port {self.port}"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"{self.scheme}://{headers.get('host', '').lower()}":
            return "requests from pages of other origins are not accepted"
        elsewhere = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        navigates = scope["method"] in _SAFE and headers.get("sec-fetch-mode") == "navigate"
        if elsewhere and not navigates:
            return "requests from pages of other sites are not accepted"
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
        response = self._answer(scope)
        await (response or self.app)(scope, receive, send)

    def _answer(self, scope: "Scope") -> "Response | None":
        """Return the answer to a request that does not pass; note the role of one that does."""
        refusal = self.access.refusal(scope)
        if refusal is not None:
            return problems.problem(403, refusal, request_id(scope))
        if self.access.opens(scope):
            return self._opened(scope)
        role = self.access.role(Headers(scope=scope))
        if role is None and scope["path"] not in OPEN:
            if scope["path"] == "/" and self.access.owner is not None:
                return pages.closed()
            detail = "send the token of this service: Authorization: Bearer TOKEN"
            return problems.problem(401, detail, request_id(scope), headers={"www-authenticate": "Bearer"})
        scope["medlike.role"] = role or "peer"
        return None

    def _opened(self, scope: "Scope") -> "Response":
        """Return the page's address without the token, which becomes a cookie."""
        # A browser that comes from elsewhere sends no strict cookie along with a redirect, so it gets a page that
        # leads on.
        elsewhere = Headers(scope=scope).get("sec-fetch-site", "none") not in ("same-origin", "none")
        response = pages.leading_on() if elsewhere else pages.redirect()
        response.set_cookie(
            self.access.cookie, self.access.owner or "", path="/", httponly=True, samesite="strict",
            secure=self.access.scheme == "https",
        )  # fmt: skip
        return response


def _equal(given: str, token: str | None) -> bool:
    """Compare a token in constant time; none is equal to one that there is not."""
    return token is not None and hmac.compare_digest(given.encode(), token.encode())
