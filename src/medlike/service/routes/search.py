"""Searching."""

from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from medlike.service import descriptions
from medlike.service.answers import answer
from medlike.service.bodies import parsed, read_body
from medlike.service.context import OfArchive, in_search_thread
from medlike.service.parameters import known_parameters
from medlike.service.query_images import is_multipart, uploaded
from medlike.service.search_answer import search as searched
from medlike.service.search_request import SearchRequest
from medlike.types import JsonObject

router = APIRouter(tags=["search"], dependencies=[Depends(known_parameters)])


@router.post(
    "/search", openapi_extra=descriptions.search_body(), responses=descriptions.answers("The hits, best first.")
)
async def search(request: Request, of: OfArchive) -> Response:
    """Search for images like a stored one, an uploaded one, a region of it, or a text."""
    limits = of.service.limits

    def answered(facts: JsonObject, images: Sequence[Path] = ()) -> Response:
        wanted = SearchRequest.of(facts, limits)
        return answer(searched(of, wanted, of.seeing(wanted.sources), images))

    if is_multipart(request):
        async with uploaded(request, limits) as (facts, images):
            return await in_search_thread(of.service, lambda: answered(facts, images))
    body = await read_body(request, limits.json)
    return await in_search_thread(of.service, lambda: answered(parsed("the body", body)))
