"""Removing images: the writer does it, and the request waits for it."""

import re
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from medlike.errors import QueryError
from medlike.service.answers import answer
from medlike.service.bodies import json_object
from medlike.service.context import OwnArchive, Target
from medlike.service.descriptions import described, json_content
from medlike.service.jobs import FOLDER, queue_of
from medlike.service.parameters import known_parameters
from medlike.service.problems import Refusal
from medlike.service.wake import wake
from medlike.types import Json, JsonObject

router = APIRouter(tags=["images"], dependencies=[Depends(known_parameters)])
LONGEST_WAIT = 60.0  # seconds
_ID = re.compile(r"[0-9a-f]{32}")
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.25  # seconds between two looks at a removal, at first and at last
#: Exceptions of the writer -> status of the answer; of others it is 500.
_STATUSES = {"ArchiveLocked": 503, "ArchiveFull": 507}

_REPORT: JsonObject = {
    "type": "object",
    "required": ["removed", "erased", "unknown", "generation"],
    "properties": {
        "removed": {"type": "integer"},
        "erased": {"type": "integer"},
        "unknown": {"type": "array", "items": {"type": "string"}},
        "generation": {"type": "integer"},
        "fit": {"type": ["object", "null"]},
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    **described(_REPORT, "The images are removed."),
    202: {"description": "The writer is busy. It will remove the images, even if the service ends before."},
}
_ID_LIST: JsonObject = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
_BODY: JsonObject = {"requestBody": {"required": True, **json_content({
    "type": "object",
    "required": ["ids"],
    "additionalProperties": False,
    "properties": {"ids": _ID_LIST, "erase": {"type": "boolean", "default": False}},
})}}  # fmt: skip


@router.delete("/images/{id}", responses=_ANSWERS)
async def delete(
    of: OwnArchive,
    id: str,
    erase: Annotated[bool, Query(description="Leave no trace of the image in the archive.")] = False,
) -> Response:
    """Remove an image, and wait until it is done."""
    if not _ID.fullmatch(id):
        raise Refusal(404, f"there is no image {id!r:.60}: an id has 32 hex digits")
    report = await _removed(of, [id], erase)
    if report is not None and report["unknown"]:
        raise Refusal(404, f"there is no image {id} in the archive: take an id from a search")
    return _answer(report)


@router.post("/removals", responses=_ANSWERS, openapi_extra=_BODY)
async def remove(request: Request, of: OwnArchive) -> Response:
    """Remove several images at once, and wait until it is done; ids that are unknown are listed."""
    given = await json_object(request, of.service.limits.json)
    ids, erase = _checked(given)
    return _answer(await _removed(of, ids, erase))


def _checked(given: JsonObject) -> tuple[list[str], bool]:
    if unknown := [name for name in given if name not in ("ids", "erase")]:
        raise QueryError(f"the request has the key {unknown[0][:60]!r}: it takes ids and erase")
    ids: Json = given.get("ids")
    erase = given.get("erase", False)
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) and _ID.fullmatch(id) for id in ids):
        raise QueryError("ids is not a list of public ids: give each as 32 hex digits")
    if not isinstance(erase, bool):
        raise QueryError(f"erase is {erase!r:.60}: give true or false")
    return ids, erase


def _answer(report: JsonObject | None) -> Response:
    if report is None:
        return answer({"state": "accepted"}, 202)
    return answer(report)


async def _removed(of: Target, ids: list[str], erase: bool) -> JsonObject | None:
    """Return the report of a removal, None if the writer has not come to it in time."""
    queue = await run_in_threadpool(queue_of, of.archive.path)
    number = await run_in_threadpool(queue.remove, ids, erase)
    wake(of.archive.path / "private" / FOLDER)
    until, look = anyio.current_time() + LONGEST_WAIT, _FIRST_LOOK
    while anyio.current_time() < until:
        removal = await run_in_threadpool(queue.removal, number)
        if removal is None:
            return None
        if removal.error is not None:
            raise Refusal(_STATUSES.get(removal.error["error"], 500), removal.error["detail"])
        if removal.done:
            return removal.report
        await anyio.sleep(look)
        look = min(look * 1.5, _LAST_LOOK)
    return None
