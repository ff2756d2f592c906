"""Parameters of a request's address: the known ones, and filters."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query, Request

from medlike.archive.index.filter_text import parse
from medlike.errors import InputError
from medlike.types import JsonObject

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant


async def known_parameters(request: Request) -> None:
    """Refuse a request whose address has a parameter that its route does not know.

    Raises:
        InputError: It has.
    """
    known = dict.fromkeys(_names(request.scope["route"].dependant))
    for name in request.query_params:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise InputError(f"{name[:80]!r} is no parameter of {request.url.path}: use {listed}")


def _names(dependant: "Dependant") -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for each in dependant.dependencies:
        yield from _names(each)


async def where(
    where: Annotated[
        list[Annotated[str, Query(max_length=4096)]],
        Query(
            description="A condition such as modality=CT, age>=40 or label=a,b, or a filter in JSON. Repeatable.",
            max_length=32,
        ),
    ] = [],  # noqa: B006 (FastAPI copies it)
) -> JsonObject | None:
    """Return the filter of a request; None without one.

    Raises:
        QueryError: It makes no sense.
    """
    return dict(parse(where)) if where else None


#: A parameter of a route: the filter of the request.
OfWhere = Annotated[JsonObject | None, Depends(where)]
