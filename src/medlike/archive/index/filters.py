"""Filters: which images a search may answer, by their metadata.

    {"modality": "CT"}                                equal
    {"modality": ["CT", "MR"]}                        one of
    {"age": {"gte": 40, "lt": 60}, "sex": {"ne": "M"}}    operators; all of them must hold
    {"label": {"exists": True}}

Operators: eq, ne, in, gt, gte, lt, lte, exists. A field that an image lacks satisfies `ne` and `exists:
False` only. A number equals the text that reads the same; texts are ordered by their characters, numbers by
size. A field that holds a list equals each value of it.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.columns import Column, Ranges, complement, ranges
from medlike.archive.index.index import Part
from medlike.archive.index.segment import HASH_COLUMNS
from medlike.archive.storage.rows import FILTER_COLUMNS, NUMBER_COLUMNS
from medlike.archive.storage.store import Store
from medlike.errors import QueryError
from medlike.types import Json

OPERATORS = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "exists")
_SQL = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_HASH = re.compile(r"[0-9a-f]{32}")

Hashed = Callable[[str, object], str | None]


@dataclass(frozen=True)
class Condition:
    """One field, one operator, one value. `in` holds a tuple, `exists` a bool."""

    field: str
    operator: str
    value: Json

    @property
    def values(self) -> tuple[Json, ...]:
        """Return the values that `eq`, `ne` and `in` compare with."""
        return self.value if self.operator == "in" else (self.value,)


def conditions(where: Mapping[str, Json] | None) -> tuple[Condition, ...]:
    """Read a filter; None and {} filter nothing. Raises QueryError that names what is known."""
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise QueryError(f'a filter is a mapping such as {{"modality": "CT"}}, not {where!r}')
    read = []
    for field, value in where.items():
        if not isinstance(field, str) or not field or '"' in field or "\0" in field:
            raise QueryError(f"{field!r} cannot be a field: name a metadata field, for example modality")
        if isinstance(value, Mapping):
            if not value:
                raise QueryError(f"{field} has no operator: use one of {', '.join(OPERATORS)}")
            read += [_condition(field, operator, each) for operator, each in value.items()]
        elif isinstance(value, list | tuple | set | frozenset):
            read.append(_condition(field, "in", value))
        elif value is None:
            read.append(Condition(field, "exists", False))
        else:
            read.append(_condition(field, "eq", value))
    return tuple(read)


def require_comparable(conditions: Sequence[Condition]) -> None:
    """Raise QueryError if a condition compares by size what has no order, or a number with a text."""
    for each in conditions:
        if each.operator in _SQL and each.field in HASH_COLUMNS:
            raise QueryError(f"{each.field} has no order: use eq, ne, in or exists instead of {each.operator}")
        if each.operator in _SQL and each.field in NUMBER_COLUMNS and isinstance(each.value, str):
            raise QueryError(f"{each.field} holds numbers, not {each.value!r}: compare it with a number")


class Filter:
    """A filter made ready for one search: SQL has been asked, columns are looked up part by part."""

    def __init__(self, conditions: Sequence[Condition], store: Store, hashed: Hashed | None = None) -> None:
        """Compile conditions.

        Args:
            conditions: The conditions; none filter nothing.
            store: Where the fields are that have no column in the index.
            hashed: (column, value) -> keyed hash, so that a study, series or patient can be given by its true name.
        """
        require_comparable(conditions)
        self.conditions = conditions
        self.by_column = [
            _with_hashes(condition, hashed) if condition.field in HASH_COLUMNS else condition
            for condition in conditions
            if condition.field in FILTER_COLUMNS
        ]
        other = [condition for condition in conditions if condition.field not in FILTER_COLUMNS]
        self.rows = _ask(store, other) if other else None

    @classmethod
    def of(cls, where: Mapping[str, Json], store: Store, hashed: Hashed | None = None) -> "Filter":
        """Read and compile a filter. Raises QueryError as `conditions` does."""
        return cls(conditions(where), store, hashed)

    def mask(self, part: Part) -> NDArray[np.bool_] | None:
        """Which rows of a part pass: bool [part.rows], or None where all do."""
        chosen = None
        for condition in self.by_column:
            column = part.segment.column(condition.field)
            codes = _matching(condition, column, condition.field in NUMBER_COLUMNS)
            passes = column.mask(codes, part.rows)
            chosen = passes if chosen is None else chosen & passes
        if self.rows is not None:
            images = part.segment.images[: part.rows]
            passes = np.zeros(part.rows, bool)
            if len(images) and len(self.rows):
                at = np.minimum(np.searchsorted(self.rows, images), len(self.rows) - 1)
                passes = self.rows[at] == images
            chosen = passes if chosen is None else chosen & passes
        return chosen


def holds_field(store: Store, field: str) -> bool:
    """Whether any image, live or not, has a metadata field that is no column."""
    sql = "SELECT 1 FROM images WHERE json_type(metadata, ?) IS NOT NULL LIMIT 1"
    return store.first(sql, (_path(field),)) is not None


def _condition(field: str, operator: object, value: Json) -> Condition:
    if operator not in OPERATORS:
        raise QueryError(f"{operator!r} is no operator for {field}: use one of {', '.join(OPERATORS)}")
    if operator == "exists":
        if not isinstance(value, bool):
            raise QueryError(f"exists for {field} is {value!r}: give True or False")
        return Condition(field, operator, value)
    if operator == "in":
        if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
            raise QueryError(f"in for {field} is {value!r}: give a list of values")
        return Condition(field, operator, tuple(_value(field, each) for each in value))
    return Condition(field, operator, _value(field, value))


def _value(field: str, value: object) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise QueryError(f"{field} is compared with {value}: give a whole number of at most 64 bits, or a text")
    if isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise QueryError(f"{field} is compared with {value!r}: give a text or a number")


def _with_hashes(condition: Condition, hashed: Hashed | None) -> Condition:
    if condition.operator == "exists":
        return condition

    def known(value: object) -> str:
        text = str(value)
        return text if _HASH.fullmatch(text) or hashed is None else hashed(condition.field, text) or text

    values = tuple(known(each) for each in condition.values)
    return replace(condition, value=values if condition.operator == "in" else values[0])


def _matching(condition: Condition, column: Column, number: bool) -> Ranges:
    """The codes of a column whose values satisfy a condition."""
    size = len(column.values)
    value = condition.value
    if condition.operator == "exists":
        return [(1, size + 1)] if value else [(0, 1)]
    if condition.operator in ("eq", "ne", "in"):
        equal = ranges([code for each in condition.values if (code := _code(column, each, number))])
        return complement(equal, size) if condition.operator == "ne" else equal
    if number != isinstance(value, int | float):
        return ranges([code for code, each in enumerate(column.values, 1) if _reads_as(each, condition)])
    low, high = (value, None) if condition.operator in ("gt", "gte") else (None, value)
    return column.between(low, high, condition.operator == "gt", condition.operator == "lt")


def _code(column: Column, value: str | int | float, number: bool) -> int:
    if not number:
        return column.code(_text(value)) or column.code(str(value))  # 1.0 is stored as "1.0"
    try:
        return column.code(float(value))
    except ValueError:
        return 0


def _reads_as(text: str, condition: Condition) -> bool:
    """Whether a text that reads as a number satisfies an ordering with a number: knee grades are texts."""
    try:
        number = float(text)
    except ValueError:
        return False
    limit = condition.value
    satisfied = {
        "gt": number > limit, "gte": number >= limit, "lt": number < limit, "lte": number <= limit,
    }  # fmt: skip
    return bool(satisfied[condition.operator])


def _text(value: str | int | float) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _ask(store: Store, conditions: Sequence[Condition]) -> NDArray[np.int64]:
    """Return the rows whose other metadata satisfy every condition, ascending. Names and values are bound."""
    clauses, values = [], []
    for condition in conditions:
        clause, bound = _clause(condition)
        clauses.append(clause)
        values += bound
    return np.asarray(store.select(" AND ".join(clauses), values), np.int64)


def _clause(condition: Condition) -> tuple[str, list[object]]:
    path = _path(condition.field)
    value, field = condition.value, "json_extract(metadata, ?)"
    if condition.operator == "exists":
        return f"{field} IS {'NOT ' if value else ''}NULL", [path]
    if condition.operator in ("eq", "ne", "in"):
        forms = [form for each in condition.values for form in _forms(each)]
        marks = ",".join("?" * len(forms))
        # SQLite gives a stored boolean as 1 or 0; its type tells how it is written.
        types = [str(value).lower() for value in condition.values if str(value).lower() in ("true", "false")]
        listed = ",".join("?" * len(types))
        item = f"SELECT 1 FROM json_each(metadata, ?) AS item WHERE item.value IN ({marks}) OR item.type IN ({listed})"
        equal = (
            f"({field} IN ({marks}) OR json_type(metadata, ?) IN ({listed}) "
            f"OR (json_type(metadata, ?) = 'array' AND EXISTS ({item})))"
        )
        bound = [path, *forms, path, *types, path, path, *forms, *types]
        if condition.operator == "ne":
            return f"({field} IS NULL OR NOT {equal})", [path, *bound]
        return equal, bound
    kinds = "('text')" if isinstance(value, str) else "('integer', 'real')"
    return f"(json_type(metadata, ?) IN {kinds} AND {field} {_SQL[condition.operator]} ?)", [path, path, value]


def _path(field: str) -> str:
    """A metadata field as SQLite's JSON functions name it."""
    return "$." + json.dumps(field, ensure_ascii=False)


def _forms(value: str | int | float) -> list[object]:
    """A number as itself and as text; a text that reads as a number also as that."""
    if not isinstance(value, str):
        return [value, _text(value)]
    try:
        number = float(value)
    except ValueError:
        return [value]
    return [value, number] if math.isfinite(number) else [value]
