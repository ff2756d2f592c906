"""Parameters of a request's address: the known ones, and filters."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query, Request

from medlike.archive.index.filter_text import parse
from medlike.errors import InputError
from medlike.types import JsonObject

#: Kind of a fault -> the next action.
_ACTIONS = {
    "greater_than": "give more than {gt}",
    "greater_than_equal": "give at least {ge}",
    "less_than": "give less than {lt}",
    "less_than_equal": "give at most {le}",
    "int_parsing": "give a whole number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_parsing": "give true or false",
    "literal_error": "use {expected}",
    "string_pattern_mismatch": "it must match {pattern}",
    "string_too_long": "give at most {max_length} characters",
    "too_long": "give at most {max_length}",
}

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
            raise InputError(f"{name[:80]!r} is not a parameter of {request.url.path}: use {listed}")


def _names(dependant: "Dependant") -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for each in dependant.dependencies:
        yield from _names(each)


def invalid(fault: Mapping[str, Any]) -> str:
    """Return a sentence about a parameter that is not as it must be.

    Args:
        fault: What pydantic says of it.
    """
    name = ".".join(str(part) for part in fault["loc"][1:]) or "the body"
    action = _ACTIONS.get(fault["type"])
    if fault["type"] == "missing":
        return f"{name} is missing: give it"
    if action is None:
        return f"{name}: {fault['msg']}"
    return f"{name} is {str(fault['input'])[:80]!r}: {action.format_map(fault.get('ctx', {}))}"


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
