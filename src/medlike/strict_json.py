"""Reading JSON that comes from outside: bounded in size, depth and numbers, and strict about what JSON is.

`json.loads` takes numbers of any length, NaN, Infinity and lone surrogates, and ends in a RecursionError on deep
nesting. Each of these breaks something later: a database, an encoder, a terminal. Here all of them are one error.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from medlike.types import Json

SIZE = 256 << 20  # bytes of a document
DEPTH = 32  # levels of lists and objects
DIGITS = 40  # characters of a whole number
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class Unreadable(ValueError):
    """A document that is no JSON, or is beyond the limits; the message says which."""


class NotJSON(Unreadable):
    """A text that is no JSON at all; it may still be words."""


def read(path: Path, size: int = SIZE) -> "Json":
    """Return the value of a JSON file.

    Args:
        path: The file, in UTF-8.
        size: The most bytes that are read.

    Raises:
        Unreadable: The file is no JSON or is beyond a limit.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return loads(file.read(size + 1), size)


def loads(document: str | bytes, size: int = SIZE, depth: int = DEPTH) -> "Json":
    """Return the value of a JSON document (RFC 8259) from outside.

    Args:
        document: Text, or bytes in UTF-8.
        size: The most bytes or characters.
        depth: The most levels of lists and objects.

    Raises:
        Unreadable: The document is no JSON, or it is larger or nested deeper, holds a whole number of more than
            40 characters, a number beyond float64, NaN, Infinity, or half of a surrogate pair.
    """
    if len(document) > size:
        raise Unreadable(f"it is larger than {size} bytes")
    try:
        text = document.decode().removeprefix("\ufeff") if isinstance(document, bytes) else document
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
    except RecursionError:
        raise Unreadable(f"it is nested deeper than {depth} levels") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 ({error.reason})") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"it is not JSON ({error})") from None
    if text.count("[") + text.count("{") > depth:
        _require_shallow(value, depth)
    try:
        # A text that was decoded leniently can hold half of a pair, and an escape can name one.
        if isinstance(document, str) and not text.isascii():
            text.encode()
        if _HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unreadable("it holds half of a surrogate pair") from None
    return value


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise Unreadable(f"it holds a number of {len(digits)} digits, at most {DIGITS} are read")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Unreadable(f"it holds a number beyond 1.8e308 ({text[:DIGITS]})")
    return number


def _no_number(name: str) -> NoReturn:
    raise Unreadable(f"it holds {name}, which is not JSON")


def _require_shallow(value: object, depth: int) -> None:
    level: list[Json] = [value]
    for _ in range(depth + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        if not level:
            return
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    raise Unreadable(f"it is nested deeper than {depth} levels")
