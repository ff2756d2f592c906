"""Dictionary columns: each distinct value once, in order, and a small number for each row."""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medlike.codes.threads import share
from medlike.types import Array, Json, Type

STEP = 1 << 20  # rows a thread takes at a time
WORTH = 1 << 22  # rows that pay for waking one more thread

Value = str | float
Ranges = list[tuple[int, int]]


class Column:
    """One metadata field of the rows of a segment.

    codes: uint8, uint16 or uint32 [N]; 0 = the field is absent, c = values[c - 1]. values: ascending and
    distinct; a list of str or float, or an array of 32-character byte strings for keyed hashes.
    """

    def __init__(self, codes: Array, values: Sequence[Json] | NDArray[np.bytes_]) -> None:
        self.codes = codes
        self.values = values

    def code(self, value: Value) -> int:
        """The code of a value, 0 where no row has it."""
        if isinstance(self.values, np.ndarray):
            sought = np.bytes_(str(value).encode())
            at = int(np.searchsorted(self.values, sought))
            return at + 1 if at < len(self.values) and self.values[at] == sought else 0
        at = bisect_left(self.values, value)
        return at + 1 if at < len(self.values) and self.values[at] == value else 0

    def value(self, row: int) -> Value | None:
        """The value of one row, None where the field is absent."""
        code = int(self.codes[row])
        if not code:
            return None
        stored = self.values[code - 1]
        return stored.decode() if isinstance(stored, bytes) else stored

    def between(self, low: Value | None, high: Value | None, low_open: bool, high_open: bool) -> Ranges:
        """Half-open ranges of codes whose values lie between two bounds (None: no bound)."""
        left, right = (
            (bisect_right if low_open else bisect_left),
            (bisect_left if high_open else bisect_right),
        )
        first = 0 if low is None else left(self.values, low)
        last = len(self.values) if high is None else right(self.values, high)
        return [(first + 1, last + 1)] if first < last else []

    def mask(self, ranges: Ranges, rows: int) -> NDArray[np.bool_]:
        """Which of the first `rows` rows have a code in one of the ranges: bool [rows]."""
        chosen = np.empty(rows, bool)
        table = None
        if len(ranges) > 4:
            table = np.zeros(len(self.values) + 1, bool)
            for first, last in ranges:
                table[first:last] = True

        def worker(counter: "itertools.count[int]") -> None:
            while (start := next(counter) * STEP) < rows:
                part = slice(start, min(start + STEP, rows))
                _choose(self.codes[part], ranges, table, chosen[part])

        share(1 + rows // WORTH, worker)
        return chosen


def _choose(codes: Array, ranges: Ranges, table: NDArray[np.bool_] | None, chosen: NDArray[np.bool_]) -> None:
    if table is not None:
        np.take(table, codes, out=chosen)
        return
    if not ranges:
        chosen[:] = False
    kind = codes.dtype.type
    for number, (first, last) in enumerate(ranges):
        inside = np.empty(len(codes), bool) if number else chosen
        if last - first == 1:
            np.equal(codes, kind(first), out=inside)
        else:
            # Unsigned wrap-around makes one comparison of two. All codes together are one more than `kind` can hold.
            np.less(codes - kind(first), last - first, out=inside)
        if number:
            np.logical_or(chosen, inside, out=chosen)


def ranges(codes: Sequence[int]) -> Ranges:
    """Single codes as half-open ranges, neighbours joined."""
    joined: Ranges = []
    for code in sorted(set(codes)):
        if joined and joined[-1][1] == code:
            joined[-1] = (joined[-1][0], code + 1)
        else:
            joined.append((code, code + 1))
    return joined


def complement(chosen: Ranges, size: int) -> Ranges:
    """The codes 0 .. size that are in none of the ranges (which are ascending and apart)."""
    others, start = [], 0
    for first, last in chosen:
        if start < first:
            others.append((start, first))
        start = last
    if start <= size:
        others.append((start, size + 1))
    return others


def narrowest(size: int) -> Type:
    """The smallest unsigned type that holds the codes 0 .. size."""
    return np.dtype(np.uint8 if size < 256 else np.uint16 if size < 65536 else np.uint32)


def usable(value: Json, number: bool) -> Value | None:
    """A field's value as a column holds it: float for number columns, str for others, None for absent."""
    if value is None:
        return None
    if number:
        return None if math.isnan(float(value)) else float(value)
    return str(value)


def numbered(columns: Sequence[Column]) -> list[NDArray[np.int64]]:
    """Number the values of several columns of keyed hashes: equal values have the same number, in whichever column.

    Two different ones of a million have the same number with a probability of 3e-8.

    Returns:
        int64 [values] for each column, below the number of all their values.
    """
    mixed = [_mixed(np.asarray(column.values)) for column in columns if len(column.values)]
    if not mixed:
        return [np.empty(0, np.int64) for _ in columns]
    numbers = np.unique(np.concatenate(mixed), return_inverse=True)[1]
    return np.split(numbers, np.cumsum([len(column.values) for column in columns])[:-1])


def _mixed(hashes: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return a number of 64 bits for each text of at most 32 bytes: uint64 [N]. They sort ten times as fast."""
    words = np.ascontiguousarray(hashes.astype("S32")).view("<u8").reshape(-1, 4)
    mixed = words[:, 0].copy()
    for at in range(1, 4):
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0x9E3779B97F4A7C15)  # wraps around
        mixed += words[:, at]
    return mixed
