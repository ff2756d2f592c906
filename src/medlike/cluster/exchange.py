"""Requests and replies as plain data, and flows: a verb as a generator that asks for one reply after the other.

A flow knows nothing of the network. `Client` and `AsyncClient` each run the same flows, so a verb is written once.
"""

import io
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from medlike.errors import ArchiveError
from medlike.types import Json

CHUNK = 1 << 18  # bytes that are sent at once


@dataclass(frozen=True)
class Upload:
    """A file to be sent.

    Attributes:
        content: The file, or what it holds.
        name: What the service is told of its name.
    """

    content: Path | bytes
    name: str = ""

    @property
    def size(self) -> int:
        """Return the number of bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    def open(self) -> BinaryIO:
        """Open it for reading."""
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def chunks(self, sent: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """Yield the bytes, a piece at a time.

        Args:
            sent: Called with the length of each piece once it is sent.
        """
        with self.open() as file:
            while piece := file.read(CHUNK):
                yield piece
                if sent is not None:
                    sent(len(piece))


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: HTTP method.
        path: Path below the API.
        params: Parameters of the query string.
        json: Body as JSON; with `images` it becomes the field `request`.
        images: Files of a query, sent as the fields `image`.
        body: One file that is the whole body.
        headers: More headers.
        repeatable: True if sending it twice does no more than sending it once.
        expected: Statuses that are no error besides those below 400.
        seconds: How long the service may take to answer, besides the time-out of the client.
        sent: Called with the length of each piece of `body` that was sent.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    params: tuple[tuple[str, str], ...] = ()
    json: Json = None
    images: tuple[Upload, ...] = ()
    body: Upload | None = None
    headers: tuple[tuple[str, str], ...] = ()
    repeatable: bool = False
    expected: tuple[int, ...] = ()
    seconds: float = 0.0
    sent: Callable[[int], None] | None = field(default=None, compare=False)


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
                f"the answer is no JSON but {kind}: check that the address is that of a medlike service"
            ) from None


@dataclass(frozen=True)
class Pause:
    """A wait between two requests.

    Attributes:
        seconds: How long it is.
    """

    seconds: float


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
