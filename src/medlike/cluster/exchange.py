"""Requests and replies as plain data, and flows: a verb as a generator that asks for one reply after the other.

A flow knows nothing of the network. `Client` and `AsyncClient` each run the same flows, so a verb is written once.
"""

import io
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar, cast

from medlike.errors import ArchiveError
from medlike.types import Json


class _Counted(io.FileIO):
    """A file that tells how much of it is read."""

    sent: Callable[[int], None]

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(-1 if size is None else size) or b""
        self.sent(len(piece))
        return piece


@dataclass(frozen=True)
class Upload:
    """A file to be sent.

    Attributes:
        content: The file, or what it holds.
        name: What the service is told of its name.
        sent: Called with the number of bytes of each piece, as it is handed to the network.
    """

    content: Path | bytes
    name: str = ""
    sent: Callable[[int], None] | None = field(default=None, compare=False)

    def open(self) -> BinaryIO:
        """Open it for reading."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        if self.sent is None:
            return self.content.open("rb")
        file = _Counted(self.content)
        file.sent = self.sent
        return cast(BinaryIO, file)


#: A form: names of fields with a text or a file each.
Form = tuple[tuple[str, str | Upload], ...]


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: HTTP method.
        path: Path below the API.
        params: Parameters of the query string.
        json: Body as JSON.
        form: Body as a form instead.
        repeatable: True if sending it twice does no more than sending it once.
        expected: Statuses that are no error besides those below 400.
        seconds: How long the service may take to answer, besides the time-out of the client.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    params: tuple[tuple[str, str], ...] = ()
    json: Json = None
    form: Form = ()
    repeatable: bool = False
    expected: tuple[int, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Reply:
    """The answer to a request.

    Attributes:
        status: HTTP status.
        headers: Headers, their names in lower case.
        content: Body.
    """

    status: int
    headers: dict[str, str]
    content: bytes = b""

    def json(self) -> Json:
        """Return the body as JSON.

        Raises:
            ArchiveError: It is none.
        """
        try:
            return json.loads(self.content)
        except ValueError:
            kind = self.headers.get("content-type", "nothing")
            raise ArchiveError(
                f"the answer is {kind}, not JSON: check that the address is that of a medlike service"
            ) from None


@dataclass(frozen=True)
class Pause:
    """A wait between two requests.

    Attributes:
        seconds: How long it is.
    """

    seconds: float


def compact_json(value: Json) -> str:
    """Return a value as JSON text.

    Args:
        value: The value; floats are written so that they are read as the same ones.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


T = TypeVar("T")
#: A verb: it yields calls, is sent their replies, and returns its result. After a Pause it is sent None.
Flow = Generator[Call | Pause, Reply | None, T]


def asked(call: Call) -> Flow[Reply]:
    """Make one request and return the reply.

    Args:
        call: The request.
    """
    reply = yield call
    assert reply is not None
    return reply
