"""What a bundle's specification may say: types and sane bounds, checked before anything is believed."""

import math
import re
from collections.abc import Callable, Mapping

from medlike.bundle.phantoms import SIZE
from medlike.types import Json

_DIGEST = re.compile(r"[0-9a-f]{64}")
LONGEST = 200  # characters of a name
Check = Callable[[Json], bool]


def problem(spec: Mapping[str, Json], files: tuple[str, ...]) -> str | None:
    """Return what is wrong with a specification as a sentence that names key and value; None where it is sound.

    Args:
        spec: The content of bundle.json.
        files: Names of the files that a bundle has, besides bundle.json.
    """
    wrong = _first_problem(spec, _KEYS)
    if wrong is not None:
        return wrong
    stated = spec["files"]
    if set(stated) != set(files):
        return f"files names {_shown(sorted(stated))}, not {', '.join(files)}"
    for name, facts in stated.items():
        if not (isinstance(facts, dict) and _whole(facts.get("bytes"), 0, 2**36) and _digest(facts.get("sha256"))):
            return f"files.{name} is {_shown(facts)}, not a size and a SHA-256"
    count = spec["golden"].get("count")
    if not _whole(count, 1, 1024):
        return f"golden.count is {_shown(count)}, not a number from 1 to 1024"
    if spec.get("kind") == "text":
        return _problem_inside("text", spec.get("text"), _TEXT)
    size = (spec.get("preprocessing") or {}).get("size", SIZE)
    if not _whole(size, 32, 1024):
        return f"preprocessing.size is {_shown(size)}, not a number from 32 to 1024"
    if "cells" in spec["outputs"] and size != SIZE:
        return f"preprocessing.size is {size}, but local codes are of images of {SIZE}"
    outlier = spec.get("outlier")
    return None if outlier is None or outlier == {} else _problem_inside("outlier", outlier, _OUTLIER)


def _problem_inside(name: str, values: Json, checks: Mapping[str, tuple[Check, str]]) -> str | None:
    if not isinstance(values, dict):
        return f"{name} is {_shown(values)}, not an object"
    return _first_problem(values, checks, f"{name}.")


def _first_problem(values: Mapping[str, Json], checks: Mapping[str, tuple[Check, str]], prefix: str = "") -> str | None:
    for key, (check, expected) in checks.items():
        if not check(values.get(key)):
            return f"{prefix}{key} is {_shown(values.get(key))}, not {expected}"
    return None


def _whole(value: Json, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()


def _names(value: Json, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(map(_name, value))


def _shown(value: Json) -> str:
    return f"{value!r:.60}" if not isinstance(value, int) or abs(value) < 2**64 else "a number of 2**64 or more"


_KEYS: dict[str, tuple[Check, str]] = {
    "name": (lambda v: _name(v) and "/" not in v and v not in (".", ".."), "a printable name without slashes"),
    "preset": (_name, "a name"),
    "kind": (lambda v: v in (None, "image", "text"), "image or text"),
    "bits": (lambda v: _whole(v, 8, 1024) and v % 8 == 0, "a multiple of 8 from 8 to 1024"),
    "content_dim": (lambda v: _whole(v, 1, 65_536), "a number from 1 to 65536"),
    "content_blocks": (
        lambda v: v is None or (isinstance(v, list) and 0 < len(v) <= 64 and all(_whole(w, 1, 65_536) for w in v)),
        "a list of at most 64 widths",
    ),
    "local_bits": (lambda v: v is None or (_whole(v, 64, 1024) and v % 64 == 0), "a multiple of 64 up to 1024"),
    "outputs": (lambda v: _names(v, 64), "a list of at most 64 names"),
    "modalities": (lambda v: v is None or _names(v, 256), "a list of at most 256 names"),
    "labels": (lambda v: v is None or isinstance(v, dict), "an object"),
    "golden": (lambda v: isinstance(v, dict), "an object"),
    "preprocessing": (lambda v: v is None or isinstance(v, dict), "an object"),
    "files": (lambda v: isinstance(v, dict), "an object"),
    "digest": (_digest, "a SHA-256"),
}

_TEXT: dict[str, tuple[Check, str]] = {
    **dict.fromkeys(("sentence_width", "embedding_dim"), (lambda v: _whole(v, 1, 65_536), "a number from 1 to 65536")),
    **dict.fromkeys(
        ("image_encoder_digest", "image_bundle", "sentence_digest"), (lambda v: v == "" or _name(v), "a name")
    ),
    "sentence_limit": (lambda v: v is None or _whole(v, 3, 65_536), "a number from 3 to 65536"),
}

_OUTLIER: dict[str, tuple[Check, str]] = {
    "k": (lambda v: _whole(v, 1, 10_000), "a number from 1 to 10000"),
    "threshold": (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1"),
    "least_units": (lambda v: _whole(v, 1, 10**9), "a number from 1 to 10**9"),
    "normalise": (lambda v: isinstance(v, bool), "true or false"),
    "components": (lambda v: _names(v, 16) and len(v) > 0, "a list of names"),
    "modalities": (lambda v: _names(v, 256), "a list of at most 256 names"),
}
