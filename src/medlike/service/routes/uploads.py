"""Uploads: files are stored durably and acknowledged by a ticket, then the writer commits their images."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast
from urllib.parse import unquote

import anyio
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from medlike.archive.archive import Archive
from medlike.archive.storage import arrival
from medlike.errors import InputError, MedlikeError, QueryError
from medlike.files import disk_errors
from medlike.service import standstill
from medlike.service.answers import answer
from medlike.service.bodies import parsed, pieces
from medlike.service.context import OwnArchive
from medlike.service.descriptions import described, object_of
from medlike.service.jobs import FOLDER
from medlike.service.parameters import known_parameters
from medlike.service.problems import Refusal, status_of
from medlike.service.wake import wake
from medlike.types import JsonObject

router = APIRouter(tags=["uploads"], dependencies=[Depends(known_parameters)])
IN_MEMORY = 1 << 20  # bytes of a body that are held in memory; longer ones go to an unnamed file
FILES = 1000  # files of one request
FACTS = ("metadata", "texts", "identifiers")
LONGEST_WAIT = 30.0  # seconds
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.25  # seconds between two looks at a ticket, at first and at last
_LATE = 0.1  # share of the time waited by which an answer may come too late

_OBJECT = {"type": "object", "additionalProperties": True}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "description": "The files; repeat the field for more.",
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                        },
                        "metadata": {"description": "Searchable fields of all files, by name.", **_OBJECT},
                        "texts": {"description": "Texts of all files, such as a report, by kind.", **_OBJECT},
                        "identifiers": {"description": "Names, patient ids and UIDs of all files.", **_OBJECT},
                    },
                }
            },
        },
    }
}
_TICKETS = object_of({"tickets": {"type": "array", "items": {"type": "string"}}})
_TICKET: JsonObject = {
    "type": "object",
    "required": ["ticket", "state"],
    "properties": {
        "ticket": {"type": "string"},
        "state": {"enum": ["received", "indexed", "refused"]},
        "ids": {"type": "array", "items": {"type": "string"}},
        "duplicates": {"type": "array", "items": {"type": "string"}},
        "reason": {"type": ["string", "null"]},
        "waiting": {"type": "string", "description": "Why a received file cannot be indexed now."},
    },
}


@router.post(
    "/images",
    status_code=202,
    openapi_extra={
        **_BODY,
        "parameters": [{
            "name": "X-File-Name", "in": "header", "schema": {"type": "string"},
            "description": "Name of the file, percent-encoded, if the body is the file itself.",
        }],
    },
    responses=described(_TICKETS, "The files are stored durably.", 202),
)  # fmt: skip
async def upload(request: Request, of: OwnArchive) -> Response:
    """Store files durably, and answer with a ticket for each, in their order.

    The body is one file, or a form with several files in the field `file`. The fields `metadata`, `texts` and
    `identifiers` of a form are objects of JSON, and go for all its files.
    """
    limit = of.service.limits.body
    with ExitStack() as stack:
        form = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "multipart/form-data"
        files, facts = await (_form(request, limit, stack) if form else _file(request, of.archive, limit, stack))
        tickets = await run_in_threadpool(_receive, of.archive, files, facts)
    wake(of.archive.path / "private" / FOLDER)
    place = request.url.path.removesuffix("/images")
    return answer({"tickets": tickets}, 202, {"location": f"{place}/tickets/{tickets[0]}"})


@router.get("/tickets/{ticket}", responses=described(_TICKET, "The state of the file."))
async def ticket(
    of: OwnArchive,
    ticket: str,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait until the file is indexed or refused.")
    ] = 0.0,
) -> Response:
    """Say what became of an uploaded file: received, indexed as which images, or refused and why."""
    began = anyio.current_time()
    until = began + wait
    while True:
        try:
            state = await run_in_threadpool(of.archive.status, ticket)
        except InputError as error:
            raise Refusal(404, str(error)) from None
        left = until - anyio.current_time()
        if state.state != "received" or left <= 0 or of.service.stopping.is_set():
            break
        look = _LATE * (anyio.current_time() - began)
        await anyio.sleep(min(max(look, _FIRST_LOOK), _LAST_LOOK, left))
    return answer({
        "ticket": ticket, "state": state.state, "ids": list(state.ids), "duplicates": list(state.duplicates),
        "reason": state.reason, **(standstill.waiting(of.archive.path) if state.state == "received" else {}),
    })  # fmt: skip


Files = list[tuple[str, BinaryIO]]


async def _file(request: Request, archive: Archive, limit: int, stack: ExitStack) -> tuple[Files, JsonObject]:
    """Return the body as a file, with its name."""
    name = unquote(request.headers.get("x-file-name", ""))
    # On the disk of the archive, whose owner alone reads it, and without a name: it goes with the request.
    folder = archive.path / "private"
    file = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(folder)))  # noqa: SIM115 (the stack closes it)
    size = 0
    async for piece in pieces(request, limit):
        size += len(piece)
        with disk_errors(folder):
            if size <= IN_MEMORY:
                file.write(piece)
            else:
                await run_in_threadpool(file.write, piece)
    if not size:
        raise QueryError("the body is empty: send a file, or a form with the field file")
    return [(name, cast(BinaryIO, file))], {}


async def _form(request: Request, limit: int, stack: ExitStack) -> tuple[Files, JsonObject]:
    """Return the files of a form, with their names, and the facts that go for all of them."""
    parser = MultiPartParser(
        request.headers, pieces(request, limit), max_files=FILES, max_fields=len(FACTS),
        max_part_size=min(arrival.SIDECAR, limit),
    )  # fmt: skip
    try:
        with disk_errors(Path(tempfile.gettempdir()) / "upload"):
            form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read ({getattr(error, 'message', error)}): send it again") from None
    facts: JsonObject = {}
    files: Files = []
    for value in form.values():
        if isinstance(value, UploadFile):
            stack.callback(value.file.close)
    for name, value in form.multi_items():
        if name in FACTS and isinstance(value, str) and name not in facts:
            facts[name] = parsed(f"the field {name}", value)
        elif name == "file" and isinstance(value, UploadFile):
            files.append((value.filename or "", value.file))
        else:
            known = f"send files as file, and {', '.join(FACTS)} once each"
            raise QueryError(f"the field {name[:60]!r} of the form is unknown, repeated or of the wrong kind: {known}")
    if not files or not all(file.size for file in form.getlist("file") if isinstance(file, UploadFile)):
        raise QueryError("a file of the form is empty, or there is none: send each file in a field file")
    return files, facts


def _receive(archive: Archive, files: Files, facts: JsonObject) -> list[str]:
    """Store all files, or refuse all for a fact that cannot be stored.

    Raises:
        Refusal: The disk is full after some of them: their tickets are in the problem.
    """
    for name, _ in files:
        arrival.checked(name, **facts)
    tickets: list[str] = []
    for name, file in files:
        try:
            tickets.append(archive.receive(file, name, **facts))
        except MedlikeError as error:
            if not tickets:
                raise
            detail = f"{error}; the first {len(tickets)} of {len(files)} files are stored: send only the others again"
            more = {"error": type(error).__name__, "tickets": tickets}
            raise Refusal(status_of(error)[0], detail, more=more) from error
    return tickets
