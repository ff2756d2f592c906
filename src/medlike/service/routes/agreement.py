"""Where a stored image agrees with a query, cell by cell."""

import io
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from medlike.archive.search.query import Query as ImageQuery
from medlike.errors import QueryError
from medlike.service.answers import answer
from medlike.service.conditional import readable
from medlike.service.context import OfArchive
from medlike.service.parameters import known_parameters
from medlike.service.routes.images import ImageId
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
    "required": ["id", "query", "grid", "distance", "similarity", "box", "orientation", "scale", "mirrored"],
    "properties": {"id": {"type": "string"}, "query": {"type": "string"}, "grid": _GRID},
}
@readable(
    router, "/images/{id}/agreement",
    responses={"200": {"description": "The grid, or a picture to lay over the image.", "content": {
        "application/json": {"schema": AGREEMENT},
        "image/png": {"schema": {"type": "string", "format": "binary"}},
    }}},
)  # fmt: skip
def agreement(
    of: OfArchive,
    id: ImageId,
    query: Annotated[str, Query(description="Public id of the stored image to compare with.", max_length=128)],
    region: Annotated[
        str | None, Query(description="A region of it: x0,y0,x1,y1 in its pixels.", max_length=200)
    ] = None,
    orientations: Annotated[Literal["8", "1"], Query(description="As for a search by region.")] = "8",
    scales: Annotated[Literal["3", "1"], Query(description="As for a search by region.")] = "3",
    format: Literal["json", "png"] = "json",
    size: Annotated[int, Query(description="Longest side of the picture, pixels.", ge=16, le=4096)] = 512,
) -> Response:
    """Say where an image agrees with a query: the share of equal bits of each of 14 x 14 cells, or a picture of it."""
    asked = ImageQuery(id=query, region=None if region is None else _box(region))
    hit = of.archive.agreement(
        asked, id, viewer=of.viewer, orientations=int(orientations), scales=int(scales)
    )  # fmt: skip
    return agreement_answer(hit, query, format, size)


def agreement_answer(hit: "Hit", query: str, format: str, size: int) -> Response:
    """Return how a hit agrees with a query as JSON, or as a PNG to lay over the image.

    Args:
        hit: The hit.
        query: What the answer calls the query.
        format: "json" or "png".
        size: Longest side of the PNG, pixels.

    Raises:
        QueryError: One of the two images has no local codes.
    """
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
    return answer({"id": hit.id, "query": query, "grid": grid, "box": box, **facts})


def _box(text: str) -> list[float]:
    try:
        edges = [float(edge) for edge in text.split(",")]
    except ValueError:
        edges = []
    if len(edges) != 4:
        raise QueryError(f"region is {text!r}: give four numbers, x0,y0,x1,y1")
    return edges
