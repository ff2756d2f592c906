"""The pages of the service: what it is, and where its parts are."""

from functools import cache
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from medlike import __version__
from medlike.service.context import role_of, service_of
from medlike.service.problems import Refusal

if TYPE_CHECKING:
    from jinja2 import Environment

router = APIRouter(include_in_schema=False)
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/")
def home(request: Request) -> Response:
    """Show what the service is and which archives it holds."""
    if role_of(request) != "owner":
        raise Refusal(403, "pages are for the owner of the archives")
    held = [
        {"name": each.name, "images": len(archive)}
        for each, archive in service_of(request).collections.visible("owner")
    ]
    return _page("home.html", archives=held, version=__version__)


@router.get("/page.css")
def style() -> Response:
    """Return the style of the pages."""
    return Response(_templates().get_template("page.css").render(), media_type="text/css")


def closed() -> Response:
    """Return the page for a browser without the cookie."""
    return _page("closed.html", 401)


def redirect() -> Response:
    """Send a browser to the page, without the token in its address."""
    return RedirectResponse("/", 303, {"cache-control": "no-store"})


def leading_on() -> Response:
    """Return a page that goes to the home page by itself."""
    return _page("opened.html")


def _page(template: str, status: int = 200, **values: object) -> Response:
    html = _templates().get_template(template).render(values)
    headers = {"content-security-policy": POLICY, "cache-control": "no-store", "x-frame-options": "DENY"}
    return Response(html, status, headers, "text/html")


@cache
def _templates() -> "Environment":
    # Loaded with the first page, so that the service starts sooner.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("medlike.service")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
