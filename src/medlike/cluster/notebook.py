"""The notebook of an archive: marks on hits, and stored receipts, as flows."""

import re
from collections.abc import Mapping

from medlike.cluster.exchange import Call, Flow, asked
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

_ID = re.compile(r"[0-9a-f]{32}")


def mark(query: str, image: str, value: str) -> Flow[None]:
    """Mark an image as like or unlike a query."""
    body = {"mark": value}
    yield from asked(Call("PUT", f"marks/{_checked(query)}/{_checked(image)}", json=body, repeatable=True))


def unmark(query: str, image: str | None) -> Flow[None]:
    """Delete the mark on an image, or all marks of a query."""
    place = _checked(query) if image is None else f"{_checked(query)}/{_checked(image)}"
    yield from asked(Call("DELETE", f"marks/{place}"))


def marks(query: str) -> Flow[dict[str, list[str]]]:
    """Return the marked images of a query, under "like" and "unlike"."""
    reply = yield from asked(Call("GET", f"marks/{_checked(query)}", repeatable=True))
    facts = reply.json()
    return {name: list(facts[name]) for name in ("like", "unlike")}


def store(receipt: Mapping[str, Json]) -> Flow[str]:
    """Store a receipt, and return its id."""
    if not isinstance(receipt, Mapping):
        raise QueryError(f"this is no receipt but {type(receipt).__name__}: give the `receipt` of a result")
    reply = yield from asked(Call("POST", "receipts", json=dict(receipt)))
    return str(reply.json()["id"])


def stored(id: str) -> Flow[JsonObject]:
    """Return a stored receipt."""
    reply = yield from asked(Call("GET", f"receipts/{_checked(id)}/receipt", repeatable=True))
    receipt: JsonObject = reply.json()["receipt"]
    return receipt


def forget(id: str) -> Flow[None]:
    """Delete a stored receipt, and the marks on it."""
    yield from asked(Call("DELETE", f"receipts/{_checked(id)}"))


def _checked(id: str) -> str:
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise QueryError(f"{id!r:.60} is no id: take an id from a search, or that of a stored receipt")
    return id
