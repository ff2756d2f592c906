"""The pages of the service: the reading room, and what a browser sees without the cookie."""

import io
from functools import cache
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from medlike import __version__
from medlike.errors import ImageError
from medlike.service.context import in_search_thread, role_of, service_of
from medlike.service.problems import Refusal
from medlike.service.query_images import is_multipart, uploaded
from medlike.service.static_files import static_files

if TYPE_CHECKING:
    from jinja2 import Environment

router = APIRouter(include_in_schema=False)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
VIEWER = "viewer/viewer.js"
SIDE = 1024  # pixels of the longest side of a query's picture


@router.get("/")
def home(request: Request) -> Response:
    """Show the reading room."""
    _require_owner(request)
    held = [
        {"name": each.name, "images": len(archive)}
        for each, archive in service_of(request).collections.visible("owner")
    ]
    return _page("room.html", archives=held, version=__version__, viewer=VIEWER in static_files())


@router.get("/page.css")
def style() -> Response:
    """Return the style of the pages without a script."""
    return Response(_templates().get_template("page.css").render(), media_type="text/css")


@router.post("/room/picture")
async def picture(request: Request) -> Response:
    """Draw an image that a question is about, as medlike reads it; nothing of it is stored."""
    _require_owner(request)
    service = service_of(request)
    if not is_multipart(request):
        raise Refusal(415, "the body is not multipart/form-data: send the image as a file in the field image")
    async with uploaded(request, service.limits) as (_, images):
        if len(images) != 1:
            raise Refusal(422, f"there are {len(images)} images: send one")
        drawn = await in_search_thread(service, lambda: _drawn(images[0]))
    return Response(drawn, 200, {"cache-control": "no-store"}, "image/png")


def closed() -> Response:
    """Return the page for a browser without the cookie."""
    return _page("closed.html", 401)


def redirect() -> Response:
    """Send a browser to the page, without the token in its address."""
    return RedirectResponse("/", 303, {"cache-control": "no-store"})


def leading_on() -> Response:
    """Return a page that goes to the home page by itself."""
    return _page("opened.html")


def _require_owner(request: Request) -> None:
    if role_of(request) != "owner":
        raise Refusal(403, "pages are for the owner of the archives")


def _drawn(file: object) -> bytes:
    """Return an image as PNG, as its file says it is shown."""
    from PIL import Image as Pillow

    from medlike.imaging import as_image, render_colour, scaled

    image = as_image(file, "process")
    if image is None:
        raise ImageError("the file holds no image: send a DICOM file, a PNG or a JPEG")
    written = io.BytesIO()
    Pillow.fromarray(scaled(render_colour(image), SIDE)).save(written, "PNG", compress_level=1)
    return written.getvalue()


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
