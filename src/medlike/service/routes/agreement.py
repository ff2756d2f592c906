"""Where a stored image agrees with a query, cell by cell."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from medlike.archive.search.query import Query as ImageQuery
from medlike.errors import QueryError
from medlike.service import descriptions
from medlike.service.answers import answer
from medlike.service.bodies import parsed, read_body
from medlike.service.conditional import readable
from medlike.service.context import OfArchive, in_search_thread
from medlike.service.parameters import known_parameters
from medlike.service.query_images import is_multipart, uploaded
from medlike.service.routes.images import ImageId
from medlike.service.search_request import SearchRequest
from medlike.types import JsonObject

if TYPE_CHECKING:
    from medlike.archive.search.result import Hit

router = APIRouter(tags=["pictures"], dependencies=[Depends(known_parameters)])

_GRID: JsonObject = {
    "type": "array", "minItems": 14, "maxItems": 14,
    "items": {"type": "array", "minItems": 14, "maxItems": 14, "items": {"type": ["number", "null"]}},
    "description": "Share of equal bits of each cell, 0 to 1, by rows; null outside of the match.",
}  # fmt: skip
AGREEMENT: JsonObject = {
    "type": "object",
    "required": ["id", "grid", "distance", "similarity", "box", "orientation", "scale", "mirrored"],
    "properties": {
        "id": {"type": "string"},
        "grid": _GRID,
        "box": {"type": ["array", "null"], "description": "Where the region lies: x0, y0, x1, y1."},
        "distance": {"type": "number"},
        "similarity": {"type": "number"},
        "orientation": {"type": ["integer", "null"]},
        "scale": {"type": ["number", "null"]},
        "mirrored": {"type": "boolean", "description": "True if the image is the query mirrored left to right."},
    },
}
#: Settings of a search that say how one image is compared; others of a body are for a ranking.
SETTINGS = ("codes", "generation", "orientations", "scales", "region_weight", "region_distance", "region_turns")
Format = Literal["json", "png"]
Size = Annotated[int, Query(description="Longest side of the picture, pixels.", ge=16, le=4096)]
_ANSWERS: JsonObject = {"200": {"description": "The grid, or a picture to lay over the image.", "content": {
    "application/json": {"schema": AGREEMENT},
    "image/png": {"schema": {"type": "string", "format": "binary"}},
}}}  # fmt: skip


@readable(router, "/images/{id}/agreement", responses=_ANSWERS)
def agreement(
    of: OfArchive,
    id: ImageId,
    query: Annotated[str, Query(description="Public id of the stored image to compare with.", max_length=128)],
    region: Annotated[
        str | None, Query(description="A region of it: x0,y0,x1,y1 in its pixels.", max_length=200)
    ] = None,
    orientations: Annotated[Literal["8", "1"], Query(description="As for a search by region.")] = "8",
    scales: Annotated[Literal["3", "1"], Query(description="As for a search by region.")] = "3",
    format: Format = "json",
    size: Size = 512,
) -> Response:
    """Say where an image agrees with a query: the share of equal bits of each of 14 x 14 cells, or a picture of it."""
    asked = ImageQuery(id=query, region=None if region is None else _box(region))
    settings = {"orientations": int(orientations), "scales": int(scales)}
    return _answered(of.archive.agreement(asked, id, viewer=of.viewer, **settings), format, size)  # type: ignore[arg-type]


@router.post("/images/{id}/agreement", responses=_ANSWERS, openapi_extra=descriptions.search_body())
async def agreement_with(
    request: Request, of: OfArchive, id: ImageId, format: Format = "json", size: Size = 512
) -> Response:
    """Say where an image agrees with the query of a search, whose body this takes; ranking and filter do not matter."""
    limits = of.service.limits

    def answered(facts: JsonObject, images: Sequence[Path] = ()) -> Response:
        wanted = SearchRequest.of(facts, limits)
        if wanted.texts:
            raise QueryError("texts have no agreement map: leave `texts` out")
        settings = {name: wanted.settings[name] for name in SETTINGS if name in wanted.settings}
        hit = of.archive.agreement(wanted.asked(images), id, viewer=of.seeing(False), **settings)
        return _answered(hit, format, size)

    if is_multipart(request):
        async with uploaded(request, limits) as (facts, images):
            return await in_search_thread(of.service, lambda: answered(facts, images))
    body = await read_body(request, limits.json)
    return await in_search_thread(of.service, lambda: answered(parsed("the body", body)))


def _answered(hit: "Hit", format: Format, size: int) -> Response:
    """Return how a hit agrees with a query as JSON, or as a PNG to lay over the image."""
    if hit.agreement is None or hit.size is None:
        raise QueryError("one of the two images has no local codes: run `medlike reindex`")
    if format == "png":
        from medlike.display.sheet import overlay

        file = io.BytesIO()
        overlay(hit.agreement, hit.size, size).save(file, "PNG", compress_level=1)
        return Response(file.getvalue(), headers={"cache-control": "private, no-cache"}, media_type="image/png")
    grid = [[None if np.isnan(share) else float(share) for share in row] for row in hit.agreement]
    names = ("distance", "similarity", "orientation", "scale", "mirrored")
    box = None if hit.box is None else list(hit.box)
    facts = {name: getattr(hit, name) for name in names}
    return answer({"id": hit.id, "grid": grid, "box": box, **facts})


def _box(text: str) -> list[float]:
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError:
        edges = []
    if len(edges) != 4:
        raise QueryError(f"region is {text!r}: give four numbers, x0,y0,x1,y1")
    return edges
