"""The total order of hits: (distance, minus content similarity, id), without holding every tie in memory.

Codes collide: in a large archive a million images can be equally near. Only those at the distance of the last
hit are compared by content, block by block, so memory does not grow with their number.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered, reduced, similarities
from medlike.codes import hamming
from medlike.codes.buckets import BITS
from medlike.codes.threads import share
from medlike.types import Array

Answer = tuple[NDArray[np.int32], NDArray[np.int64], int]


def rank(
    fields: Sequence[Field],
    code: NDArray[np.uint8],
    content: Array,
    k: int,
    mode: str = "content",
    radius: int | None = None,
    first: Sequence[Answer] | None = None,
) -> Candidates:
    """The first k rows in the total order of a mode.

    code: uint8 [bits / 8]; content: int8 [D]. content: by (distance, -similarity, id); hamming: by (distance,
    id); radius: those within the radius by (-similarity, distance, id). first: `hamming.nearest_and_more` of
    each field for `reach(field, k)` rows, where it is known already.
    """
    if mode == "radius":
        return _best(fields, code, content, k, mode, (0, radius if radius is not None else 8 * len(code)))
    if first is None:
        first = [_nearest(field, code, reach(field, k), radius) for field in fields]
    staying = []
    for field, (near, rows, _) in zip(fields, first, strict=True):
        stays = field.unskipped(rows)
        staying.append((near[stays], rows[stays]))
    together = np.concatenate([near for near, _ in staying]) if staying else np.empty(0, np.int32)
    together.sort()
    last = int(together[k - 1]) if len(together) >= k else 8 * len(code)
    complete = min((whole for _, _, whole in first), default=last)
    # Where ties at the last distance were too many to be held, they are gone through block by block.
    upto = last if last <= complete or len(together) < k else last - 1
    nearest = Candidates.joined(
        [
            candidates(field, number, near[near <= upto], rows[near <= upto], content)
            for number, (field, (near, rows)) in enumerate(zip(fields, staying, strict=True))
        ]
    )
    if upto < last:
        ties = _best(fields, code, content, k - len(nearest), mode, (last, last))
        nearest = Candidates.joined([nearest, _compared(ties, fields, content)])
    return ordered(_foremost(nearest, k, mode), mode).take(slice(0, k))


def _nearest(field: Field, code: NDArray[np.uint8], k: int, radius: int | None) -> Answer:
    if 8 * len(code) == BITS and radius is None and field.part.rows == len(field.part.segment):
        return field.part.segment.table.nearest_and_more(code, k, field.mask)
    return hamming.nearest_and_more(field.codes, code[None], k, field.mask, radius)[0]


def reach(field: Field, k: int) -> int:
    """How many nearest rows `rank` wants to see of a field, so that k are left without those it skips."""
    return k + len(field.skip)


def members(
    fields: Sequence[Field],
    code: NDArray[np.uint8],
    content: Array,
    positions: Sequence[NDArray[np.int64]],
) -> Candidates:
    """Given positions of each field as candidates, those that may be answered, in no order."""
    parts = []
    for number, (field, chosen) in enumerate(zip(fields, positions, strict=True)):
        rows = field.allowed(chosen)
        near = hamming.distances(np.ascontiguousarray(field.codes[rows]), code, "numpy")
        parts.append(candidates(field, number, near, rows, content))
    return Candidates.joined(parts)


def _best(
    fields: Sequence[Field],
    code: NDArray[np.uint8],
    content: Array,
    k: int,
    mode: str,
    distances: tuple[int, int],
) -> Candidates:
    """The first k of all rows between two distances (both included), block by block on all cores.

    A core holds one block and k more, however many rows there are.
    """
    blocks = [
        (number, start) for number, field in enumerate(fields) for start in range(0, field.part.rows, hamming.STEP)
    ]

    def worker(counter: "itertools.count[int]") -> Candidates:
        best = Candidates.joined([])
        while (turn := next(counter)) < len(blocks):
            number, start = blocks[turn]
            for near, rows in _between(fields[number], code, start, distances):
                worst = best.similarity[-1] if mode != "hamming" and len(best) >= k else None
                block = _contenders(fields[number], number, near, rows, content, mode, worst)
                best = ordered(Candidates.joined([best, reduced(block, k, mode)]), mode).take(slice(0, k))
        return best

    if k <= 0:
        return Candidates.joined([])
    return ordered(Candidates.joined(share(len(blocks), worker)), mode).take(slice(0, k))


def _between(
    field: Field, code: NDArray[np.uint8], start: int, distances: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """The rows of one block of a field that may be answered and lie between two distances."""
    part = slice(start, min(start + hamming.STEP, field.part.rows))
    engine = hamming.engine(field.codes)
    mask = None if field.mask is None else field.mask[part]
    for near, rows in hamming.within_blocks(field.codes[part], code, distances[1], mask, engine):
        rows = rows + start
        inside = (near >= distances[0]) & field.unskipped(rows)
        if not inside.all():
            near, rows = near[inside], rows[inside]
        if len(rows):
            yield near, rows


def _contenders(
    field: Field,
    number: int,
    near: NDArray[np.int32],
    rows: NDArray[np.int64],
    content: Array,
    mode: str,
    worst: np.float32 | None,
) -> Candidates:
    """Rows as candidates, without those less similar than `worst` where that decides."""
    if mode == "hamming":
        return candidates(field, number, near, rows, None)
    alike = similarities(field, rows, content)
    if worst is not None:
        mask = alike >= worst
        near, rows, alike = near[mask], rows[mask], alike[mask]
    return candidates(field, number, near, rows, alike)


def _foremost(rows: Candidates, k: int, mode: str) -> Candidates:
    """Without what lies beyond the k-th distance, and without ties at it that cannot be among the first k."""
    if not 0 < 4 * k < len(rows):
        return rows
    last = np.partition(rows.distance, k - 1)[k - 1]
    nearer = rows.take(rows.distance < last)
    return Candidates.joined([nearer, reduced(rows.take(rows.distance == last), k - len(nearer), mode)])


def _compared(rows: Candidates, fields: Sequence[Field], content: Array) -> Candidates:
    """With similarities: an order by distance and id alone has not asked for them."""
    alike = np.empty(len(rows), np.float32)
    for number, field in enumerate(fields):
        inside = rows.part == number
        if inside.any():
            alike[inside] = similarities(field, rows.position[inside], content)
    return replace(rows, similarity=alike)


