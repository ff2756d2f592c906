"""Receipts of searches: stored, repeated, deleted."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from medlike.service import descriptions
from medlike.service.answers import answer
from medlike.service.bodies import parsed, read_body
from medlike.service.context import OfArchive, OwnArchive, Target, in_search_thread
from medlike.service.notes import LARGEST, StoredReceipt
from medlike.service.parameters import known_parameters
from medlike.service.receipts import repeated, stored
from medlike.types import JsonObject

router = APIRouter(tags=["receipts"], dependencies=[Depends(known_parameters)])
Sources = Annotated[bool, Query(description="Whether hits say where their images came from.")]
Agreement = Annotated[bool, Query(description="Whether hits hold their agreement map.")]

STORED: JsonObject = {
    "id": {"type": "string"},
    "created": {"type": "number", "description": "Seconds since 1970."},
    "expires": {"type": ["number", "null"], "description": "When it is deleted; null if it stays."},
}  # fmt: skip


@router.post(
    "/receipts", status_code=201, openapi_extra=descriptions.receipt_body(),
    responses=descriptions.described(descriptions.object_of(STORED), "It is stored durably.", 201),
)  # fmt: skip
async def store(request: Request, of: OwnArchive) -> Response:
    """Store the receipt of a search, to be repeated by its id."""
    body = await read_body(request, LARGEST)
    made = await in_search_thread(of.service, lambda: stored(of, parsed("the body", body)))
    return answer(_facts(made), 201, {"location": f"receipts/{made.id}"})


@router.post(
    "/receipts/repeat", openapi_extra=descriptions.receipt_body(),
    responses=descriptions.answers("The same hits, less what was erased."),
)  # fmt: skip
async def repeat(request: Request, of: OfArchive, sources: Sources = False, agreement: Agreement = False) -> Response:
    """Repeat the search of a receipt, which is not stored."""
    limit = of.service.limits.json
    body = await read_body(request, limit)
    return await in_search_thread(
        of.service, lambda: _answered(of, parsed("the body", body), sources, agreement)
    )


@router.get("/receipts/{id}", responses=descriptions.answers("The same hits, less what was erased."))
async def repeat_stored(
    id: str, of: OwnArchive, sources: Sources = False, agreement: Agreement = False
) -> Response:
    """Repeat the search of a stored receipt."""
    return await in_search_thread(
        of.service, lambda: _answered(of, of.notes.receipt(id).receipt, sources, agreement)
    )


@router.get(
    "/receipts/{id}/receipt",
    responses=descriptions.described(
        descriptions.object_of({**STORED, "receipt": {"type": "object"}}), "The receipt as it was stored."
    ),
)
def receipt(id: str, of: OwnArchive) -> Response:
    """Return a stored receipt."""
    found = of.notes.receipt(id)
    return answer({**_facts(found), "receipt": found.receipt})


@router.delete("/receipts/{id}", status_code=204)
def delete(id: str, of: OwnArchive) -> Response:
    """Delete a stored receipt, and the marks on it."""
    of.notes.delete(id)
    return Response(status_code=204)


def _answered(of: Target, receipt: JsonObject, sources: bool, agreement: bool) -> Response:
    return answer(repeated(of, receipt, of.seeing(sources), ("agreement",) if agreement else ()))


def _facts(stored: StoredReceipt) -> JsonObject:
    return {"id": stored.id, "created": stored.created, "expires": stored.expires}
