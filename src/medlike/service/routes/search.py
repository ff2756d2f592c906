"""Searching."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from medlike.service.answers import answer
from medlike.service.bodies import json_object, read_body
from medlike.service.context import OfArchive, in_search_thread
from medlike.service.requests import request_id
from medlike.service.search_answer import search as searched
from medlike.service.search_request import SearchRequest

router = APIRouter(tags=["search"])


@router.post("/search")
async def search(request: Request, of: OfArchive) -> Response:
    """Search for images like a stored one, an uploaded one, a region of it, or a text."""
    limits = of.service.limits
    body = await read_body(request, limits.json)

    def answered() -> Response:
        wanted = SearchRequest.of(json_object(body, limits.json), limits)
        return answer(searched(of, wanted, of.viewer_for(wanted.sources, request_id(request.scope))))

    return await in_search_thread(of.service, answered)
