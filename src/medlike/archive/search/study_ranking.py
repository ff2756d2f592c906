"""The total orders of hits for several images as one query, in one scan.

The distance of a stored image is the smallest to any of the query's images, its similarity the largest. By these it is
ordered as for one image (ranking.py).
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered, reduced, similarities
from medlike.codes import hamming
from medlike.codes.threads import share
from medlike.types import I8, U8


def rank_study(
    fields: Sequence[Field], codes: U8, contents: I8, k: int, mode: str = "content", radius: int | None = None
) -> Candidates:
    """Return the first k rows in the total order of a mode.

    Args:
        fields: What may be answered.
        codes: uint8 [Q, bits / 8], one row for each image of the query.
        contents: int8 [Q, D].
        k: How many rows.
        mode: "content", "hamming", "radius" or "exact".
        radius: Largest distance of a row.
    """
    blocks = [
        (number, start) for number, field in enumerate(fields) for start in range(0, field.part.rows, hamming.STEP)
    ]

    def worker(counter: "itertools.count[int]") -> Candidates:
        best = Candidates.joined([])
        while (turn := next(counter)) < len(blocks):
            number, start = blocks[turn]
            rows = np.arange(start, min(start + hamming.STEP, fields[number].part.rows))
            limit = radius
            if mode in ("content", "hamming") and len(best) >= k > 0:
                limit = int(best.distance[-1]) if limit is None else min(limit, int(best.distance[-1]))
            block = _candidates(fields[number], number, rows, codes, contents, limit)
            if mode in ("radius", "exact"):
                block = reduced(block, k, mode)
            best = ordered(Candidates.joined([best, block]), mode).take(slice(0, k))
        return best

    if k <= 0:
        return Candidates.joined([])
    return ordered(Candidates.joined(share(len(blocks), worker)), mode).take(slice(0, k))


def members_for_study(
    fields: Sequence[Field], codes: U8, contents: I8, positions: Sequence[NDArray[np.int64]]
) -> Candidates:
    """Return given positions of each field as candidates, those that may be answered, in no order."""
    parts = [
        _candidates(field, number, chosen, codes, contents, None)
        for number, (field, chosen) in enumerate(zip(fields, positions, strict=True))
    ]
    return Candidates.joined(parts)


def _candidates(
    field: Field, number: int, rows: NDArray[np.int64], codes: U8, contents: I8, limit: int | None
) -> Candidates:
    """Return those of some rows of a field that may be answered and are not beyond a distance."""
    rows = field.allowed(rows)
    stored = np.ascontiguousarray(field.codes[rows])
    # The caller is one of several threads already.
    near = np.minimum.reduce([hamming.distances(stored, code, "numpy") for code in codes])
    if limit is not None:
        near, rows = near[near <= limit], rows[near <= limit]
    alike = np.maximum.reduce([similarities(field, rows, content) for content in contents])
    return candidates(field, number, near, rows, alike)
