"""Facets: how many images have which value of each filter column, without a query.

They are counted from the dictionary columns of the index: one pass over the small codes of each column, then work on
distinct values only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from medlike.archive.index.candidates import Field
from medlike.archive.index.columns import Column
from medlike.archive.index.filters import Filter
from medlike.archive.index.index import View
from medlike.archive.index.known_fields import require_fields
from medlike.archive.index.segment import HASH_COLUMNS
from medlike.archive.search.settings import SearchSettings
from medlike.archive.storage.rows import FILTER_COLUMNS, NUMBER_COLUMNS
from medlike.errors import QueryError
from medlike.types import F64, I64, Json, JsonObject

if TYPE_CHECKING:
    from medlike.archive.session import Session

VERSION = 1
BINS = 10  # of a histogram at most
Kind = Literal["text", "number", "identifier"]


@dataclass(frozen=True)
class Facet:
    """How many images have which value in one column.

    Attributes:
        field: Name of the column, as filters use it.
        kind: "text", "number", or "identifier" for patient, study and series, whose values are never listed.
        images: Images that have a value.
        missing: Images that have none.
        distinct: How many distinct values there are.
        values: For text: the most frequent values with their numbers of images; equally frequent ones in the order of
            their characters.
        others: For text: images with a value that is not among `values`.
        quartiles: For numbers: minimum, lower quartile, median, upper quartile and maximum, each a value that an image
            has: the smallest that 0, 25, 50, 75 and 100 % of the images do not exceed. None without images.
        bins: For numbers: start, end and number of images of at most 10 bins of one width, 1, 2 or 5 times a power of
            ten. A bin includes its start and excludes its end.
    """

    field: str
    kind: Kind
    images: int
    missing: int
    distinct: int
    values: tuple[tuple[str, int], ...] = ()
    others: int = 0
    quartiles: tuple[float, float, float, float, float] | None = None
    bins: tuple[tuple[float, float, int], ...] = ()


@dataclass(frozen=True)
class Facets:
    """Facets of all filter columns, as of one generation.

    Attributes:
        generation: As of which images were counted.
        total: Images that live and pass the filter.
        where: The filter, None without one.
        facets: One for each column, in the order of `FILTER_COLUMNS`.
    """

    generation: int
    total: int
    where: JsonObject | None
    facets: tuple[Facet, ...]

    def __getitem__(self, field: str) -> Facet:
        """Return the facet of a column.

        Raises:
            KeyError: There is no such column.
        """
        for facet in self.facets:
            if facet.field == field:
                return facet
        raise KeyError(field)

    def to_dict(self) -> JsonObject:
        """Return the facets as plain data, as schemas/facets.json describes."""
        return {
            "version": VERSION,
            "generation": self.generation,
            "total": self.total,
            "where": self.where,
            "facets": [{name: _plain(value) for name, value in vars(facet).items()} for facet in self.facets],
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Json]) -> "Facets":
        """Return the facets of a dictionary made by `to_dict`.

        Args:
            facts: The dictionary.

        Raises:
            QueryError: The data is no facets, or of another version.
        """
        try:
            if facts["version"] != VERSION:
                raise ValueError(f"they are of version {facts['version']!r}; this medlike reads version {VERSION}")
            counted = tuple(
                Facet(**{name: _frozen(value) for name, value in each.items()}) for each in facts["facets"]
            )
            return cls(int(facts["generation"]), int(facts["total"]), facts["where"], counted)
        except (KeyError, TypeError, ValueError) as error:
            raise QueryError(f"these are no facets ({error}): give what `Facets.to_dict` made") from None


def facets(
    session: "Session", where: Mapping[str, Json] | None = None, generation: int | None = None, most: int = 100
) -> Facets:
    """Count the images that match a filter, by the values of each column; `Archive.facets` explains the arguments."""
    require_most(most)
    where = SearchSettings(where=where).where
    view = session.index.view(generation)
    if where:
        require_fields(where, session.store, view.parts)
    filter = Filter.of(where, session.store, session.hashed) if where else None
    counted = [Field.of(part, filter) for part in view.parts]
    rows = [_passing(field) for field in counted]
    total = sum(
        field.part.rows - len(field.skip) if passing is None else len(passing)
        for field, passing in zip(counted, rows, strict=True)
    )
    made = []
    for name in FILTER_COLUMNS:
        columns = [field.part.segment.column(name) for field in counted]
        counts = [
            _counts(column, field, passing) for column, field, passing in zip(columns, counted, rows, strict=True)
        ]
        if name in HASH_COLUMNS:
            missing = sum(int(each[0]) for each in counts)
            distinct = _distinct(session, view, name, counts)
            made.append(Facet(name, "identifier", total - missing, missing, distinct))
        else:
            made.append(_facet(name, columns, counts, total, most))
    return Facets(view.generation, total, None if where is None else dict(where), tuple(made))


def require_most(most: object) -> None:
    """Raise QueryError unless this can be how many values of a column are listed."""
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise QueryError(f"most is {most!r}: give a number of values, 1 or more")


def _passing(field: Field) -> I64 | None:
    """Return the rows that a mask lets pass; None without one, where all but `field.skip` do."""
    if field.mask is None:
        return None
    rows = np.flatnonzero(field.mask)
    return rows[field.unskipped(rows)]


def _counts(column: Column, field: Field, passing: I64 | None) -> I64:
    """Return how many rows of a field have each code of a column: int64 [values + 1], absent ones first."""
    codes = column.codes[: field.part.rows]
    size = len(column.values) + 1
    if passing is not None:
        return np.bincount(codes[passing], minlength=size)
    counts: I64 = np.bincount(codes, minlength=size) - np.bincount(codes[field.skip], minlength=size)
    return counts


def _distinct(session: "Session", view: View, name: str, counts: Sequence[I64]) -> int:
    """Return how many different keyed hashes there are in all parts together."""
    if len(counts) == 1:
        return int(np.count_nonzero(counts[0][1:]))
    numbers = session.loaded.hash_numbers(session.indexes.used, view)[name]
    present = np.zeros(sum(map(len, numbers)), bool)
    for each, of_part in zip(counts, numbers, strict=True):
        present[of_part[each[1:] > 0]] = True
    return int(np.count_nonzero(present))


def _facet(name: str, columns: Sequence[Column], counts: Sequence[I64], total: int, most: int) -> Facet:
    missing = sum(int(each[0]) for each in counts)
    values, numbers = _joined(columns, counts)
    if name in NUMBER_COLUMNS:
        points = np.asarray(values, np.float64)
        quartiles, bins = (_quartiles(points, numbers), _bins(points, numbers)) if values else (None, ())
        return Facet(name, "number", total - missing, missing, len(values), quartiles=quartiles, bins=bins)
    first = np.argsort(-numbers, kind="stable")[:most]  # the values ascend, so ties are in their order
    listed = tuple((str(values[at]), int(numbers[at])) for at in first)
    others = total - missing - sum(number for _, number in listed)
    return Facet(name, "text", total - missing, missing, len(values), listed, others)


def _joined(columns: Sequence[Column], counts: Sequence[I64]) -> tuple[list[str | float], I64]:
    """Return the values that an image has, ascending, and how many images have each: int64 [values]."""
    numbers: dict[str | float, int] = {}
    for column, each in zip(columns, counts, strict=True):
        for at in np.flatnonzero(each[1:]).tolist():
            numbers[column.values[at]] = numbers.get(column.values[at], 0) + int(each[at + 1])
    values = sorted(numbers)
    return values, np.array([numbers[value] for value in values], np.int64)


def _quartiles(values: F64, numbers: I64) -> tuple[float, float, float, float, float]:
    upto = np.cumsum(numbers)
    ranks = [max(1, -(-int(upto[-1]) * quarter // 4)) for quarter in range(5)]
    least, lower, median, upper, most = (float(values[at]) for at in np.searchsorted(upto, ranks))
    return least, lower, median, upper, most


def _bins(values: F64, numbers: I64) -> tuple[tuple[float, float, int], ...]:
    """Return the narrowest plain bins of which 10 hold all values; see `Facet.bins`."""
    least, most = float(values[0]), float(values[-1])
    # Never finer than what float64 tells apart, nor than 1 where all values are whole.
    finest = max(abs(least), abs(most)) * 1e-12
    floor = 1.0 if bool((values == np.floor(values)).all()) else 0.0
    spread = (most - least) or abs(most) or 1.0
    exponent = math.floor(math.log10(max(spread / BINS, finest, floor, 1e-300)))
    for power, digit in ((power, digit) for power in range(exponent, exponent + 4) for digit in (1, 2, 5)):
        first, last = _place(least, digit, power), _place(most, digit, power)
        if last - first < BINS and (floor == 0.0 or digit * 10.0**power >= 1):
            break
    edges = np.array([_edge(at, digit, power) for at in range(first, last + 2)])
    # Compared with the edges as they are stated: a division may round a value across one.
    inside = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, last - first)
    images = np.bincount(inside, weights=numbers, minlength=last - first + 1)
    return tuple(
        (float(start), float(end), int(count)) for start, end, count in zip(edges, edges[1:], images, strict=False)
    )


def _edge(at: int, digit: int, power: int) -> float:
    """Return where the bin of a number begins: the float nearest to at x digit x 10**power."""
    return float(f"{at * digit}e{power}")


def _place(value: float, digit: int, power: int) -> int:
    """Return the number of the bin that holds a value, which a rounded division can miss by one."""
    at = math.floor(_divided(value, digit, power))
    if value < _edge(at, digit, power):
        return at - 1
    return at + 1 if value >= _edge(at + 1, digit, power) else at


def _divided(value: float, digit: int, power: int) -> float:
    """Return value / (digit x 10**power), multiplied where that is exact."""
    return value * 10.0**-power / digit if power < 0 else value / (digit * 10.0**power)


def _frozen(value: Json) -> Json:
    """Return lists as tuples, as a Facet holds them."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value


def _plain(value: object) -> Json:
    """Return tuples as lists, as JSON holds them."""
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
