"""Errors as problem+json (RFC 9457), with the texts that the command line shows."""

import json
import re
from collections.abc import Mapping

from starlette.responses import Response

from medlike import errors
from medlike.escaping import printable
from medlike.service.collections import UnknownArchive
from medlike.service.notes import NoteUnknown
from medlike.types import Json, JsonObject

MEDIA_TYPE = "application/problem+json"

#: Error -> status and title; the first that fits counts.
STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownArchive, 404, "Unknown archive"),
    (NoteUnknown, 404, "Unknown receipt"),
    (errors.UnknownImage, 404, "Unknown image"),
    (errors.ImageError, 422, "The image cannot be used"),
    (errors.InputError, 422, "The request cannot be answered"),
    (errors.ArchiveLocked, 503, "The archive is being written"),
    (errors.ArchiveFull, 507, "The disk is full"),
    (errors.MissingExtra, 501, "A part of medlike is not installed"),
    (errors.WorkerError, 503, "No decoding worker can be started"),
    (errors.MedlikeError, 500, "The archive cannot be used"),
)
TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "Not permitted",
    404: "Not found",
    405: "The method is not allowed here",
    408: "The request took too long",
    409: "The state of the archive does not permit it",
    410: "The pixels are gone",
    411: "The length of the body is not given",
    412: "The image has changed",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is of a kind that is not accepted",
    416: "The range lies outside of the content",
    422: "The request cannot be answered",
    431: "The head of the request is too large",
    500: "Internal error",
    503: "The service is busy",
    507: "The disk is full",
}
#: Errors whose texts speak of the request alone; all others may name folders of this machine.
_OF_REQUESTS = (errors.InputError, errors.MissingExtra)
_PATH = re.compile(r"(?<![\w.*])/(?!api/)[^\s/]+/")


class Refusal(Exception):
    """An answer that is an error, raised by a route.

    Attributes:
        status: Its HTTP status.
        detail: A sentence with the value, the limit and the next action.
        headers: Headers of the answer.
        more: More members of the problem.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Json] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more


def problem(
    status: int,
    detail: str,
    request_id: str,
    error: str | None = None,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Json] | None = None,
) -> Response:
    """Return an error as a response.

    Args:
        status: HTTP status.
        detail: The sentence that the command line would show.
        request_id: The id of the request.
        error: The class of medlike's exception, by which a client raises the same one.
        title: What kind of error it is; that of the status unless given.
        headers: More headers.
        more: More members.
    """
    facts: JsonObject = {
        "type": "about:blank",
        "title": title or TITLES.get(status, "Error"),
        "status": status,
        "detail": printable(detail),
        "request_id": request_id,
        **({} if error is None else {"error": error}),
        **(more or {}),
    }
    waiting = {"retry-after": "1"} if status == 503 else {}
    return Response(
        json.dumps(facts), status, {"cache-control": "no-store", **waiting, **(headers or {})}, MEDIA_TYPE
    )


def of_error(error: Exception, request_id: str, shown: bool = False) -> Response:
    """Return medlike's exception as a response; of any other only that there was one.

    Args:
        error: The exception.
        request_id: The id of the request.
        shown: True if the sender may see folders of this machine; else a text that may name one is left to the log.
    """
    if isinstance(error, Refusal):
        return problem(error.status, error.detail, request_id, headers=error.headers, more=error.more)
    if isinstance(error, errors.MedlikeError):
        status, title = status_of(error)
        detail = str(error) if shown or not tells_of_folders(error) else _withheld(title, request_id)
        return problem(status, detail, request_id, type(error).__name__, title)
    detail = f"the service failed in an unexpected way: look for request {request_id} in its log"
    return problem(500, detail, request_id)


def status_of(error: errors.MedlikeError) -> tuple[int, str]:
    """Return the HTTP status of medlike's exception, and what kind of error it is."""
    return next((status, title) for kind, status, title in STATUSES if isinstance(error, kind))


def tells_of_folders(error: Exception) -> bool:
    """Return True if the text of an error may name folders of this machine."""
    return isinstance(error, errors.MedlikeError) and (
        not isinstance(error, _OF_REQUESTS) or _PATH.search(str(error)) is not None
    )


def _withheld(title: str, request_id: str) -> str:
    return f"{title[0].lower()}{title[1:]}: ask the owner of the service to look for request {request_id} in its log"
