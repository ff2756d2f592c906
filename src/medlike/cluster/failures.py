"""Errors of a service as the exceptions that an archive in a folder raises."""

import json

from medlike import errors
from medlike.cluster.address import TOKEN
from medlike.cluster.exchange import Reply
from medlike.errors import ArchiveError, InputError, MedlikeError
from medlike.escaping import printable
from medlike.types import JsonObject

#: Statuses that say the request is at fault, where the problem names no exception.
_INPUT = (400, 404, 405, 413, 415, 416, 422)


def raise_for(reply: Reply, expected: tuple[int, ...], url: str) -> None:
    """Raise the exception that the service raised, by its name in the problem; return where there is none.

    Args:
        reply: The answer.
        expected: Statuses that are no error besides those below 400.
        url: The address, for the message.

    Raises:
        MedlikeError: The service refused.
    """
    if reply.status < 400 or reply.status in expected:
        return
    raise failure(reply, url)


def failure(reply: Reply, url: str) -> MedlikeError:
    """Return the exception of an answer that is an error.

    Args:
        reply: The answer.
        url: The address, for the message.
    """
    problem = _problem(reply)
    detail = printable(str(problem.get("detail") or f"{url} answered with status {reply.status}: see its log"))
    if reply.status == 401:
        return ArchiveError(
            f"{url} was not given its token: set {TOKEN} to the one in the address that `medlike serve` printed"
        )
    name = problem.get("error")
    kind = getattr(errors, name, None) if isinstance(name, str) else None
    if isinstance(kind, type) and issubclass(kind, MedlikeError):
        # Not by its own initialiser, which may make the message of other things.
        return kind.__new__(kind, detail)
    return (InputError if reply.status in _INPUT else ArchiveError)(detail)


def _problem(reply: Reply) -> JsonObject:
    try:
        facts = json.loads(reply.content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
