"""Stored images: pages of them, and what is known of each."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from medlike.service.answers import answer
from medlike.service.conditional import cached, entity_tag, readable, unchanged
from medlike.service.context import OfArchive
from medlike.service.descriptions import described
from medlike.service.parameters import OfWhere, known_parameters
from medlike.service.problems import Refusal
from medlike.types import JsonObject

router = APIRouter(tags=["images"], dependencies=[Depends(known_parameters)])

#: Parameters of a route: the id of an image, and whether sources are shown.
ImageId = Annotated[str, Path(description="Public id of a stored image: 32 hex digits.", max_length=128)]
Sources = Annotated[bool, Query(description="Show where images came from; for the owner only.")]

_FIELDS: JsonObject = {
    "id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    "metadata": {"type": "object", "description": "Searchable fields, by name."},
    "source": {"type": ["object", "null"], "description": "Path, frame, UIDs and dates; null unless asked for."},
}
PAGE: JsonObject = {
    "type": "object",
    "required": ["images", "total", "limit", "offset", "warnings"],
    "properties": {
        "images": {"type": "array", "items": {
            "type": "object", "required": ["id", "width", "height", "metadata", "source"],
            "properties": {**_FIELDS, "width": {"type": "integer"}, "height": {"type": "integer"}},
        }},
        "total": {"type": "integer", "description": "How many images match."},
        "limit": {"type": "integer"},
        "offset": {"type": "integer"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}  # fmt: skip
FACTS: JsonObject = {
    "type": "object",
    "required": ["id", "size", "metadata", "texts", "added", "frame", "frames", "pixels", "spacing", "source", "links"],
    "properties": {
        **_FIELDS,
        "size": {"type": "array", "items": {"type": "integer"}, "description": "Width and height in pixels."},
        "texts": {"type": "object", "description": "Stored texts, by kind."},
        "added": {"type": "integer", "description": "The generation in which the image was added."},
        "frame": {"type": "integer", "description": "Its number among the frames of its file, from 0."},
        "frames": {"type": "integer", "description": "How many frames the file has."},
        "pixels": {"enum": ["copy", "reference"], "description": "Kept in the archive, or read from the file."},
        "spacing": {"type": ["array", "null"], "description": "Millimetres between rows and between columns."},
        "links": {"type": "object", "description": "Addresses of its forms; they may be cached.",
                  "additionalProperties": {"type": "string"}},
    },
}  # fmt: skip
FORMS = ("rendered", "thumbnail", "picture", "pixels", "photometry")


@readable(router, "/images", responses=described(PAGE, "A page of images, in the order they were added."))
def images(
    request: Request,
    of: OfArchive,
    where: OfWhere,
    ids: Annotated[
        str, Query(description="Hex digits that the ids begin with.", pattern="^[0-9a-f]*$", max_length=32)
    ] = "",
    limit: Annotated[int, Query(description="How many images to return.", ge=1)] = 100,
    offset: Annotated[int, Query(description="How many to skip.", ge=0, le=1 << 53)] = 0,
    sources: Sources = False,
) -> Response:
    """List stored images page by page; the header Link has the addresses of the next and the previous page."""
    most = of.service.limits.page
    if limit > most:
        raise Refusal(422, f"limit is {limit}: a page has at most {most} images; follow the header Link for more")
    listing = of.archive.browse(where, limit, offset, prefix=ids, viewer=of.seeing(sources))
    links = []
    if offset + limit < listing.total:
        links.append(_link(request, "next", offset + limit))
    if offset:
        links.append(_link(request, "prev", max(0, min(offset, listing.total) - limit)))
    return answer(
        {
            "images": [vars(image) for image in listing.images],
            "total": listing.total,
            "limit": limit,
            "offset": offset,
            "warnings": list(listing.warnings),
        },
        headers={"link": ", ".join(links)} if links else None,
    )


def _link(request: Request, name: str, offset: int) -> str:
    given = [(key, value) for key, value in request.query_params.multi_items() if key != "offset"]
    return f'<{request.url.path}?{urlencode([*given, ("offset", offset)])}>; rel="{name}"'


@readable(router, "/images/{id}", responses=described(FACTS, "What is known of the image."))
def image(request: Request, of: OfArchive, id: ImageId, sources: Sources = False) -> Response:
    """Say what is known of an image, with the addresses of its pictures."""
    facts = vars(of.archive.facts(id, viewer=of.seeing(sources)))
    stamp = of.archive.stamp(id)
    named = [("archive", of.collection.name)] if "archive" in request.query_params else []
    address = urlencode([*named, ("v", stamp)])
    value = {**facts, "links": {form: f"{request.url.path}/{form}?{address}" for form in FORMS}}
    # Weak: the answer may be sent compressed.
    headers = cached(request, f"W/{entity_tag('facts', of.archive.id, sources, of.role, repr(value))}")
    return unchanged(request, headers) or answer(value, headers=headers)
