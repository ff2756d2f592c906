"""Searching for a request, and what the answer holds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medlike.archive.search.query import Query
from medlike.archive.search.text_result import TextResult
from medlike.archive.viewer import Viewer
from medlike.service.context import Target
from medlike.service.search_request import SearchRequest
from medlike.types import JsonObject

if TYPE_CHECKING:
    from medlike.archive.search.result import Result


def search(of: Target, request: SearchRequest, viewer: Viewer, images: Sequence[object] = ()) -> JsonObject:
    """Return the answer to a search.

    Args:
        of: The archive.
        request: What is asked for.
        viewer: Decides which private facts the answer holds.
        images: The query's images, where they were uploaded.

    Raises:
        QueryError: The query or a setting makes no sense.
        ImageError: An image of the query cannot be read.
    """
    query = request.asked(images)
    encoded = None
    if "encoded" in request.parts:
        encoded = of.archive.encode(query, viewer=viewer)
        query = Query(encoded=encoded, like=query.like, unlike=query.unlike)
    result = (
        of.archive.nearest_texts(query, viewer=viewer, **request.settings)
        if request.texts
        else of.archive.search(query, viewer=viewer, **request.settings)
    )
    return {**facts(result, request.parts), **({} if encoded is None else {"encoded": encoded.to_dict()})}


def facts(result: "Result | TextResult", parts: Sequence[str] = ()) -> JsonObject:
    """Return a result as the API answers it.

    Args:
        result: The result.
        parts: What the answer holds besides: "agreement" for the maps of the hits.
    """
    if isinstance(result, TextResult):
        return {**result.as_dict(), "modality": result.modality, "warnings": list(result.warnings),
                "erased": result.erased}  # fmt: skip
    return {
        **result.to_dict("agreement" in parts),
        "summary": result.summary().to_dict(),
        "unjudged": result.unjudged,
    }
