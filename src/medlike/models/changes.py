"""Settings changed by name, as --set of a training does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from medlike.errors import TrainingError

T = TypeVar("T")


def with_changes(settings: T, changes: Mapping[str, Any], what: str = "setting") -> T:
    """A dataclass of settings with some of them changed; lists become tuples.

    what: how an error calls one of them. TrainingError for a name that it does not have, which lists the known ones,
    and for a value of another kind than the one there.
    """
    there = {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]
    for name in changes:
        if name not in there:
            raise TrainingError(f"{what} {name!r} is unknown; known: {', '.join(there)}")
        if not _alike(there[name], changes[name]):
            raise TrainingError(f"{what} {name} is {changes[name]!r}, which is no {_KINDS[type(there[name])]}; "
                                f"it is {there[name]!r} by default")  # fmt: skip
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return replace(settings, **given)  # type: ignore[type-var]


_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "word", tuple: "list"}


def _alike(there: Any, value: Any) -> bool:
    kind = type(there)
    if kind not in _KINDS:
        return True
    if kind is tuple:
        return isinstance(value, list | tuple)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind
