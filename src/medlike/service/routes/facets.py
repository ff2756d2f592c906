"""Facets: how many images have which values, without a query."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from medlike.service.answers import answer
from medlike.service.context import OfArchive
from medlike.service.descriptions import facets_answer
from medlike.service.parameters import OfWhere, known_parameters

router = APIRouter(tags=["facets"], dependencies=[Depends(known_parameters)])


@router.get("/facets", responses=facets_answer())
def facets(
    of: OfArchive,
    where: OfWhere,
    generation: Annotated[
        int | None, Query(description="As of which generation; the newest unless given.", ge=0, lt=1 << 62)
    ] = None,
    most: Annotated[int, Query(description="How many values of a text column are listed.", ge=1, le=1000)] = 100,
) -> Response:
    """Count the images that match a filter, by the values of each column."""
    return answer(of.archive.facets(where, generation, most, viewer=of.seeing(False)).to_dict())
