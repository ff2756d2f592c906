"""Jobs: long writes, done by the writer one at a time, with progress as server-sent events."""

import json
import secrets
from collections.abc import AsyncGenerator
from threading import Event
from typing import Annotated, Any, get_args

import anyio
from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from medlike.errors import QueryError
from medlike.service import job_kinds
from medlike.service.answers import answer
from medlike.service.bodies import json_object
from medlike.service.context import OwnArchive, Target
from medlike.service.descriptions import described, json_content, object_of
from medlike.service.jobs import ENDED, FOLDER, Job, Kind, Queue, State, queue_of
from medlike.service.parameters import known_parameters
from medlike.service.problems import Refusal
from medlike.service.wake import wake
from medlike.types import JsonObject

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[Depends(known_parameters)])
LOOK = 0.2  # seconds between two looks at a job
HEARTBEAT = 15.0  # seconds after which a stream without news says that it lives

_JOB: dict[str, Any] = {
    "type": "object",
    "required": ["id", "kind", "state", "arguments", "version"],
    "properties": {
        "id": {"type": "integer"},
        "kind": {"enum": list(get_args(Kind))},
        "state": {"enum": list(get_args(State))},
        "arguments": {"type": "object"},
        "progress": {"type": ["object", "null"]},
        "report": {"type": ["object", "null"]},
        "error": {"type": ["object", "null"]},
        "cancelling": {"type": "boolean"},
        "version": {"type": "integer"},
        "deaths": {"type": "integer"},
        "submitted": {"type": "number"},
        "started": {"type": ["number", "null"]},
        "ended": {"type": ["number", "null"]},
    },
}
_JSON_TYPES = {str: "string", int: "integer", bool: "boolean"}


def _argument(types: tuple[type, ...]) -> JsonObject:
    if types == (list,):
        return {"type": "array", "items": {"type": "string"}}
    return {"type": [_JSON_TYPES[each] for each in types]}


_SUBMITTED: dict[str, Any] = {
    "requestBody": {
        "required": True,
        **json_content({
            "oneOf": [
                {
                    "type": "object",
                    "required": ["kind", *([job_kinds.REQUIRED[kind]] if kind in job_kinds.REQUIRED else [])],
                    "additionalProperties": False,
                    "properties": {
                        "kind": {"const": kind},
                        **{name: _argument(types) for name, types in arguments.items()},
                    },
                }
                for kind, arguments in job_kinds.ARGUMENTS.items()
            ]
        }),
    }
}


@router.post(
    "",
    status_code=202,
    openapi_extra=_SUBMITTED,
    responses=described(_JOB, "The job is stored durably.", 202),
)
async def submit(request: Request, of: OwnArchive) -> Response:
    """Submit a job: its kind and its arguments, with paths on the machine of the service."""
    kind, arguments = job_kinds.checked(await json_object(request, of.service.limits.json))
    if passphrase := arguments.pop("passphrase", None):
        arguments["secret"] = await run_in_threadpool(_hand_over, of, passphrase)
    queue = await _queue(of)
    job = await run_in_threadpool(queue.submit, kind, arguments)
    wake(of.archive.path / "private" / FOLDER)
    return answer(job.to_dict(), 202, {"location": f"{request.scope['path']}/{job.id}"})


def _hand_over(of: Target, passphrase: str) -> str:
    """Give a passphrase to the writer, which alone keeps it, in memory; return the name under which it does."""
    name = secrets.token_hex(8)
    try:
        listens = wake(of.archive.path / "private" / FOLDER, {"secret": name, "passphrase": passphrase})
    except ValueError:
        raise QueryError("the passphrase is too long: give one of at most 1000 characters") from None
    if not listens:
        raise Refusal(503, "the writer of this archive cannot take a passphrase now: try again")
    return name


@router.get(
    "",
    responses=described(
        object_of({"jobs": {"type": "array", "items": _JOB}, "total": {"type": "integer"}}), "A page of jobs."
    ),
)
def jobs(
    of: OwnArchive,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many jobs to list.")] = 100,
    offset: Annotated[int, Query(ge=0, le=2**53, description="How many jobs to skip.")] = 0,
) -> Response:
    """List jobs, the newest first, without their reports."""
    listed, total = queue_of(of.archive.path).jobs(limit, offset)
    return answer({"jobs": [job.to_dict(report=False) for job in listed], "total": total})


@router.get("/{id}", responses=described(_JOB, "The job."))
def job(of: OwnArchive, id: int) -> Response:
    """Say how far a job is, and what it did once it has ended."""
    return answer(_known(queue_of(of.archive.path), id).to_dict())


@router.delete("/{id}", responses=described(_JOB, "The job, which ends soon.", 202))
def cancel(of: OwnArchive, id: int) -> Response:
    """Cancel a job; one that runs ends after the group of images at hand, and what is committed stays.

    A job of kind compact, backup or verify can be cancelled only while it waits.
    """
    queue = queue_of(of.archive.path)
    if (job := _known(queue, id)).state in ENDED:
        raise Refusal(409, f"job {id} has ended ({job.state}): only a queued or running job can be cancelled")
    cancelled = queue.cancel(id)
    assert cancelled is not None
    if cancelled.state == "running" and not cancelled.cancelling:
        raise Refusal(409, f"job {id} is running, and {cancelled.kind} cannot be interrupted: it ends by itself")
    return answer(cancelled.to_dict(), 202)


@router.get(
    "/{id}/events",
    responses={
        200: {"description": "Server-sent events, each the job as it is then.", "content": {"text/event-stream": {}}},
        204: {"description": "The job has ended, and you have its last event."},
    },
)
async def events(
    of: OwnArchive,
    id: int,
    last: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Id of the last event that you have.")
    ] = None,
) -> Response:
    """Follow a job until it has ended."""
    queue = await _queue(of)
    job = await run_in_threadpool(_known, queue, id)
    seen = int(last) if last is not None and last.isdecimal() and len(last) < 16 else 0
    if job.state in ENDED and seen >= job.version:
        return Response(status_code=204)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(queue, id, seen, of.service.stopping), 200, headers, "text/event-stream")


async def _events(queue: Queue, id: int, seen: int, stopping: Event) -> AsyncGenerator[str, None]:
    quiet = anyio.current_time()
    while not stopping.is_set():
        version = await run_in_threadpool(queue.version, id)
        if version > seen:
            job = await run_in_threadpool(_known, queue, id)
            seen, quiet = job.version, anyio.current_time()
            yield f"id: {seen}\nevent: job\ndata: {json.dumps(job.to_dict(), ensure_ascii=False)}\n\n"
            if job.state in ENDED:
                return
        elif anyio.current_time() - quiet >= HEARTBEAT:
            quiet = anyio.current_time()
            yield ": still here\n\n"
        await anyio.sleep(LOOK)


def _known(queue: Queue, id: int) -> Job:
    job = queue.job(id) if abs(id) < 2**63 else None
    if job is None:
        raise Refusal(404, f"there is no job {id}: GET jobs lists them")
    return job


async def _queue(of: Target) -> Queue:
    return await run_in_threadpool(queue_of, of.archive.path)
