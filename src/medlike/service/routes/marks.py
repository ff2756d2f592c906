"""Marks: which hits of a query somebody found to be like it or not."""

from typing import Annotated, get_args

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from medlike.errors import QueryError
from medlike.service.answers import answer
from medlike.service.bodies import parsed, read_body
from medlike.service.context import OwnArchive, Target, in_search_thread
from medlike.service.descriptions import described, json_content, object_of
from medlike.service.notes import Mark, NoteUnknown, gone
from medlike.service.parameters import known_parameters
from medlike.service.problems import Refusal
from medlike.types import JsonObject

router = APIRouter(tags=["marks"], dependencies=[Depends(known_parameters)])
ID = r"^[0-9a-f]{32}$"
OfQuery = Annotated[str, Path(description="Id of an image, or of a stored receipt.", pattern=ID)]
OfImage = Annotated[str, Path(description="Id of the marked image.", pattern=ID)]
LARGEST = 1000  # bytes of a body
BODY: JsonObject = {"requestBody": {"required": True, **json_content({
    **object_of({"mark": {"enum": list(get_args(Mark))}}), "additionalProperties": False,
})}}  # fmt: skip

_STRING: JsonObject = {"type": "string"}
_IDS: JsonObject = {"type": "array", "items": _STRING}
_QUERY: JsonObject = {"query": _STRING, "like": {"type": "integer"}, "unlike": {"type": "integer"}}
MARKED = object_of({"query": _STRING, "image": _STRING, "mark": {"enum": list(get_args(Mark))}})
MARKS = object_of({"query": _STRING, "like": _IDS, "unlike": _IDS})
QUERIES = object_of({"queries": {"type": "array", "items": object_of(_QUERY)}, "total": {"type": "integer"}})


@router.put("/marks/{query}/{image}", openapi_extra=BODY, responses=described(MARKED, "The mark."))
async def mark(request: Request, query: OfQuery, image: OfImage, of: OwnArchive) -> Response:
    """Mark an image as like or unlike a query: send {"mark": "like"} or {"mark": "unlike"}."""
    body = await read_body(request, LARGEST)

    def marked() -> Response:
        facts = parsed("the body", body)
        value = facts.get("mark")
        if set(facts) != {"mark"} or value not in get_args(Mark):
            raise QueryError('the body must be {"mark": "like"} or {"mark": "unlike"}')
        _require_known(of, query, image)
        of.notes.mark(query, image, "like" if value == "like" else "unlike")
        return answer({"query": query, "image": image, "mark": value})

    return await in_search_thread(of.service, marked)


@router.get("/marks/{query}", responses=described(MARKS, "Ids of the marked images."))
def marks(query: OfQuery, of: OwnArchive) -> Response:
    """Return the marked images of a query, as `like` and `unlike` of a search take them."""
    return answer({"query": query, **of.notes.marks(query)})


@router.get("/marks", responses=described(QUERIES, "A page of queries."))
def marked_queries(
    of: OwnArchive,
    limit: Annotated[int, Query(description="Queries of a page.", ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(description="Queries to skip.", ge=0, le=1 << 40)] = 0,
) -> Response:
    """List the queries that have marks, with the numbers of their marks."""
    queries, total = of.notes.marked(limit, offset)
    listed = [{"query": query, "like": like, "unlike": unlike} for query, like, unlike in queries]
    return answer({"queries": listed, "total": total})


@router.delete("/marks/{query}", status_code=204)
def unmark_all(query: OfQuery, of: OwnArchive) -> Response:
    """Delete all marks of a query."""
    if not of.notes.unmark(query):
        raise NoteUnknown(f"query {query} has no marks: `GET marks` lists those that have")
    return Response(status_code=204)


@router.delete("/marks/{query}/{image}", status_code=204)
def unmark(query: OfQuery, image: OfImage, of: OwnArchive) -> Response:
    """Delete the mark on an image."""
    if not of.notes.unmark(query, image):
        raise NoteUnknown(f"image {image} is not marked for query {query}: `GET marks/{query}` lists what is")
    return Response(status_code=204)


def _require_known(of: Target, query: str, image: str) -> None:
    missing = gone(of.archive, {query, image})
    if image in missing:
        raise Refusal(404, f"there is no image {image} in the archive: take an id from a search")
    if query in missing:
        of.notes.receipt(query)
