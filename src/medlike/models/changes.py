"""Settings changed by name, as --set of a training does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

from medlike.errors import TrainingError

T = TypeVar("T")


def with_changes(settings: T, changes: Mapping[str, object], what: str = "setting") -> T:
    """Return a dataclass of settings with some of them changed; lists become tuples.

    Args:
        settings: An instance of a dataclass.
        changes: New values by name.
        what: What an error calls a setting.

    Raises:
        TrainingError: A name is unknown (the message lists the known ones), or a value is of another kind than the
            default.
    """
    defaults = {field.name: getattr(settings, field.name) for field in fields(settings)}  # type: ignore[arg-type]
    for name in changes:
        if name not in defaults:
            raise TrainingError(f"{what} {name!r} is unknown; known: {', '.join(defaults)}")
        if not _alike(defaults[name], changes[name]):
            raise TrainingError(f"{what} {name} is {changes[name]!r}, which is no {_KINDS[type(defaults[name])]}; "
                                f"it is {defaults[name]!r} by default")  # fmt: skip
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    return replace(settings, **values)  # type: ignore[type-var]


_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "word", tuple: "list"}


def _alike(default: object, value: object) -> bool:
    kind = type(default)
    if kind not in _KINDS:
        return True
    if kind is tuple:
        return isinstance(value, list | tuple)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind
