"""The facts that come with a received file: their types and limits, checked when they arrive and when read again."""

import math
from collections.abc import Mapping

from medlike.errors import InputError
from medlike.types import Json, JsonObject

SIDECAR = 16 << 20  # bytes of a sidecar
NAME = 4096  # characters of a file name
KEY = 64
KEYS = 256
VALUE = 65_536  # characters of a metadata value
TEXT = 1 << 20  # characters of a text
IDENTIFIER = 1024
LARGEST = 2**63  # whole numbers lie below it, as the database holds them


def checked(
    name: object,
    metadata: Mapping[str, Json] | None = None,
    texts: Mapping[str, str] | None = None,
    identifiers: Mapping[str, str] | None = None,
) -> JsonObject:
    """Return the facts of a received file as JSON holds them, with every limit checked.

    Args:
        name: The file name as the sender has it; what is no Unicode in it is escaped.
        metadata: Searchable facts: texts, finite numbers below 2**63, truth values, None, and lists of these.
        texts: Kind -> text, for instance a report.
        identifiers: UIDs, patient id and the like, as texts.

    Raises:
        InputError: A fact has another type or is beyond a limit; the message names it.
    """
    if not isinstance(name, str) or len(name) > NAME:
        raise InputError(f"the file name is {_shown(name)}: give a text of at most {NAME} characters")
    kinds = {"metadata": metadata, "texts": texts, "identifiers": identifiers}
    facts = {kind: _keyed(kind, values) for kind, values in kinds.items()}
    for key, value in facts["metadata"].items():
        for each in value if isinstance(value, list | tuple) and len(value) <= KEYS else [value]:
            _require_value(f"metadata[{key!r}]", each)
    for kind, most in (("texts", TEXT), ("identifiers", IDENTIFIER)):
        for key, value in facts[kind].items():
            _require_text(f"{kind}[{key!r}]", value, most)
    size = sum(len(str(value)) for kind in ("metadata", "texts") for value in facts[kind].values())
    if size > SIDECAR // 8:
        raise InputError(f"metadata and texts have {size} characters, at most {SIDECAR // 8} are stored: shorten them")
    return {"name": name.encode(errors="backslashreplace").decode(), **facts}


def _keyed(kind: str, values: object) -> JsonObject:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"{kind} is {_shown(values)}: give a mapping of names to values")
    if len(values) > KEYS:
        raise InputError(f"{kind} has {len(values)} entries, at most {KEYS} are stored: give fewer")
    for key in values:
        if not isinstance(key, str) or not 0 < len(key) <= KEY or not key.isprintable():
            raise InputError(f"{kind} has the key {_shown(key)}: give a printable name of 1 to {KEY} characters")
    return dict(values)


def _require_value(place: str, value: object) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if abs(value) >= LARGEST:
            raise InputError(f"{place} is a whole number of {value.bit_length()} bits: give one below 2**63")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"{place} is {value}: give a finite number, or leave it out")
    else:
        _require_text(place, value, VALUE)


def _require_text(place: str, value: object, most: int) -> None:
    if not isinstance(value, str):
        raise InputError(f"{place} is {_shown(value)}: give a text")
    if len(value) > most:
        raise InputError(f"{place} has {len(value)} characters, at most {most} are stored: shorten it")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{place} holds half of a surrogate pair: give Unicode text")


def _shown(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str | int | float | bytes | None):
        return f"{value!r:.60} ({kind})"
    return f"a {kind}"
