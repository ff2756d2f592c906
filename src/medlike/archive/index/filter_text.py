"""Filters as they are typed: `modality=CT`, `label="mass, left"`, or a whole filter `{"age": {"gte": 40}}`.

    FIELD=VALUE  FIELD=VALUE,VALUE  FIELD!=VALUE  FIELD>NUMBER  FIELD>=NUMBER  FIELD<NUMBER  FIELD<=NUMBER

A value in quotes, double or single, is taken as it is; a quote of the same kind inside is written twice. Quotes are
needed for commas after `=`, for blanks at an end, and for a value that begins with a quote. A field is quoted likewise.
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence

from medlike import strict_json
from medlike.archive.index.filters import conditions
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

_SIGNS = {"=": "eq", "==": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_SIZES = ("gt", "gte", "lt", "lte")
_QUOTED = r"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*')"""
_CONDITION = re.compile(
    rf"\s*({_QUOTED}|[^\s=!<>\"'][^=!<>]*?)\s*(==|!=|>=|<=|=|>|<)\s*(.*?)\s*", re.DOTALL
)
_PART = re.compile(rf"\s*({_QUOTED}|[^,]*?)\s*(?:,|$)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def parse(texts: Sequence[str]) -> dict[str, JsonObject]:
    """Read conditions as they are typed into a filter; all of them must hold.

    What is compared by size becomes a number where it reads as one; all else stays as it was typed.

    Args:
        texts: Conditions, or whole filters as Python or JSON writes them.

    Returns:
        A filter: operators and values by field.

    Raises:
        QueryError: A text is no condition, or two exclude each other.
    """
    where: dict[str, JsonObject] = {}
    for text in texts:
        for field, operator, value in _filter(text) if text.lstrip().startswith("{") else [_condition(text)]:
            operators = where.setdefault(field, {})
            if operators.get(operator, value) != value:
                raise QueryError(
                    f"{field} has two conditions with {operator}: give one, or values with commas between them"
                )
            operators[operator] = value
    return where


def _condition(text: str) -> tuple[str, str, Json]:
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise QueryError(
            f"{text!r} is not a condition: write FIELD=VALUE, FIELD!=VALUE or FIELD>=NUMBER, for example modality=CT"
        )
    field, operator, written = _bare(match[1]), _SIGNS[match[2]], match[3]
    if operator in _SIZES:
        return field, operator, _number(written)
    if operator == "eq" and len(parts := _parts(written)) > 1:
        return field, "in", [_bare(part) for part in parts if part]
    return field, operator, _bare(written)


def _parts(written: str) -> list[str]:
    """Split a text at the commas outside of quotes."""
    parts, at = [], 0
    while at < len(written):
        match = _PART.match(written, at)
        if match is None:
            raise _unclosed(written)
        parts.append(match[1])
        at = match.end()
    return parts


def _bare(written: str) -> str:
    """Return a text without its quotes."""
    if not written.startswith(('"', "'")):
        return written
    if not re.fullmatch(_QUOTED, written, re.DOTALL):
        raise _unclosed(written)
    quote = written[0]
    return written[1:-1].replace(2 * quote, quote)


def _unclosed(written: str) -> QueryError:
    return QueryError(
        f'{written} has an unmatched quote: write the whole value of the condition in quotes, and " inside it as ""'
    )


def _number(written: str) -> str | int | float:
    if _NUMBER.fullmatch(written) and not (len(written) > 1 and written[0] == "0" and "." not in written):
        number = float(written)
        if math.isfinite(number):
            return int(number) if number.is_integer() and abs(number) < 1e15 else number
    return _bare(written)


def _filter(text: str) -> list[tuple[str, str, Json]]:
    """Read a whole filter, as Python or JSON writes it."""
    where: object
    try:
        where = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        try:
            where = strict_json.loads(text)
        except ValueError as error:
            raise QueryError(
                f'{text} is not a condition: write a filter such as {{"modality": "CT"}}, in Python or JSON ({error})'
            ) from None
    if not isinstance(where, Mapping):
        raise QueryError(f'{text} is not a condition: a filter is a mapping such as {{"modality": "CT"}}')
    return [
        (each.field, each.operator, list(each.value) if isinstance(each.value, tuple) else each.value)
        for each in conditions(where)
    ]
