"""Arrays as plain data: what JSON and pickle hold without losing a bit."""

import base64
from collections.abc import Mapping

import numpy as np

from medlike.types import Array, Json, JsonObject

VERSION = 1  # of the plain forms of encoded queries and results
KINDS = ("|u1", "|i1", "|b1", "<i2", "<u8", "<f4")
MOST = 1 << 24  # bytes of one array


def array_to_dict(array: Array | None) -> JsonObject | None:
    """Return an array as its type, shape and bytes in base64; None for None."""
    if array is None:
        return None
    small = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    data = base64.b64encode(small.tobytes()).decode()
    return {"type": small.dtype.str, "shape": list(array.shape), "data": data}


def array_from_dict(facts: Mapping[str, Json] | None) -> Array | None:
    """Return the array that `array_to_dict` packed.

    Raises:
        ValueError: The type is unknown, or the bytes do not fill the shape.
        KeyError, TypeError: A part is missing or of another kind.
    """
    if facts is None:
        return None
    if facts["type"] not in KINDS:
        raise ValueError(f"array type {facts['type']!r} is not one of {', '.join(KINDS)}")
    shape = tuple(int(side) for side in facts["shape"])
    data = base64.b64decode(facts["data"], validate=True)
    if len(data) > MOST:
        raise ValueError(f"the array has {len(data)} bytes; the limit is {MOST}")
    array = np.frombuffer(data, facts["type"]).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="))


def require_version(facts: Mapping[str, Json], of: str) -> None:
    """Raise ValueError where plain data is of another version than this medlike writes."""
    if facts.get("version") != VERSION:
        raise ValueError(f"{of} is of version {facts.get('version')!r}; this medlike reads version {VERSION}")
