"""The total order of hits: (distance, minus content similarity, id), without holding every tie in memory.

Codes collide: in a large archive a million images can be equally near. Only those at the distance of the last
hit are compared by content, block by block, so memory does not grow with their number.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.index import Part
from medlike.archive.index.segment import UNIT
from medlike.codes import hamming
from medlike.codes.buckets import BITS
from medlike.codes.threads import share
from medlike.inference.encoding import similarity

MODES = ("content", "radius", "hamming")
FEW = 256  # rows left out that are cheaper to drop from the answer than to mask in the scan
BLOCK = 1 << 14  # content vectors compared at a time


@dataclass(frozen=True)
class Candidates:
    """Ranked rows: distance int32, or float64 for regions [M]; similarity float32 [M]; part, position int64 [M].

    ids: >u8 [M, 2]. windows: int64 [M], where in the image a region was found (see regions.py), -1 for none.
    """

    distance: NDArray[Any]
    similarity: NDArray[np.float32]
    part: NDArray[np.int64]
    position: NDArray[np.int64]
    ids: NDArray[Any]
    windows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.distance)

    def take(self, order: Any) -> "Candidates":
        """Some of them: an index array, mask or slice."""
        return Candidates(*(getattr(self, name)[order] for name in Candidates.__dataclass_fields__))

    def with_windows(self, windows: NDArray[np.int64]) -> "Candidates":
        """The same with windows."""
        return replace(self, windows=windows)

    @staticmethod
    def joined(parts: Sequence["Candidates"]) -> "Candidates":
        """All of them; none where there are no parts."""
        parts = [part for part in parts if len(part)]
        if not parts:
            none = np.empty(0, np.int64)
            return Candidates(np.empty(0, np.int32), np.empty(0, np.float32), none, none, np.empty((0, 2), ">u8"), none)
        return Candidates(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in Candidates.__dataclass_fields__)
        )


@dataclass(frozen=True)
class Field:
    """The rows of one part that may be answered: those of `mask` (None = all) without `skip` (positions)."""

    part: Part
    mask: NDArray[np.bool_] | None
    skip: NDArray[np.int64]

    @staticmethod
    def of(part: Part, passes: NDArray[np.bool_] | None) -> "Field":
        """The rows of a part that live and pass a filter (its mask, None = all pass)."""
        return Field(part, passes, np.empty(0, np.int64)).without(part.dead)

    def without(self, positions: NDArray[np.int64]) -> "Field":
        """The same without some more positions (ascending)."""
        if not len(positions):
            return self
        skip = np.union1d(self.skip, positions) if len(self.skip) else positions
        if len(skip) <= FEW:
            return Field(self.part, self.mask, skip)
        mask = np.ones(self.part.rows, bool) if self.mask is None else self.mask.copy()
        mask[skip] = False
        return Field(self.part, mask, np.empty(0, np.int64))

    @property
    def codes(self) -> NDArray[np.uint8]:
        return self.part.segment.array("codes")[: self.part.rows]

    def allowed(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some positions that may be answered."""
        if self.mask is not None:
            positions = positions[self.mask[positions]]
        return positions[self.kept(positions)]

    def kept(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some positions are not skipped: bool [M]."""
        if not len(self.skip):
            return np.ones(len(positions), bool)
        # Not np.isin, which takes as long as a scan of a megabyte.
        at = np.minimum(self.skip.searchsorted(positions), len(self.skip) - 1)
        return self.skip[at] != positions


Answer = tuple[NDArray[np.int32], NDArray[np.int64], int]


def rank(
    fields: Sequence[Field],
    code: NDArray[np.uint8],
    content: NDArray[Any],
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
    kept = []
    for field, (near, rows, _) in zip(fields, first, strict=True):
        stays = field.kept(rows)
        kept.append((near[stays], rows[stays]))
    together = np.concatenate([near for near, _ in kept]) if kept else np.empty(0, np.int32)
    together.sort()
    last = int(together[k - 1]) if len(together) >= k else 8 * len(code)
    complete = min((whole for _, _, whole in first), default=last)
    # Where ties at the last distance were too many to be held, they are gone through block by block.
    upto = last if last <= complete or len(together) < k else last - 1
    found = Candidates.joined(
        [
            candidates(field, number, near[near <= upto], rows[near <= upto], content)
            for number, (field, (near, rows)) in enumerate(zip(fields, kept, strict=True))
        ]
    )
    if upto < last:
        ties = _best(fields, code, content, k - len(found), mode, (last, last))
        found = Candidates.joined([found, _compared(ties, fields, content)])
    return ordered(_foremost(found, k, mode), mode).take(slice(0, k))


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
    content: NDArray[Any],
    positions: Sequence[NDArray[np.int64]],
) -> Candidates:
    """Given positions of each field as candidates, those that may be answered, in no order."""
    found = []
    for number, (field, chosen) in enumerate(zip(fields, positions, strict=True)):
        rows = field.allowed(chosen)
        near = hamming.distances(np.ascontiguousarray(field.codes[rows]), code, "numpy")
        found.append(candidates(field, number, near, rows, content))
    return Candidates.joined(found)


def ordered(found: Candidates, mode: str) -> Candidates:
    """In the total order of a mode."""
    low, high = found.ids[:, 1], found.ids[:, 0]
    if mode == "hamming":
        return found.take(np.lexsort((low, high, found.distance)))
    if mode == "radius":
        return found.take(np.lexsort((low, high, found.distance, -found.similarity)))
    return found.take(np.lexsort((low, high, -found.similarity, found.distance)))


def _best(
    fields: Sequence[Field],
    code: NDArray[np.uint8],
    content: NDArray[Any],
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
        held = Candidates.joined([])
        while (turn := next(counter)) < len(blocks):
            number, start = blocks[turn]
            for near, rows in _between(fields[number], code, start, distances):
                worst = held.similarity[-1] if mode != "hamming" and len(held) >= k else None
                block = _contenders(fields[number], number, near, rows, content, mode, worst)
                held = ordered(Candidates.joined([held, reduced(block, k, mode)]), mode).take(slice(0, k))
        return held

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
        kept = (near >= distances[0]) & field.kept(rows)
        if not kept.all():
            near, rows = near[kept], rows[kept]
        if len(rows):
            yield near, rows


def _contenders(
    field: Field,
    number: int,
    near: NDArray[np.int32],
    rows: NDArray[np.int64],
    content: NDArray[Any],
    mode: str,
    worst: Any,
) -> Candidates:
    """Rows as candidates, without those less similar than `worst` where that decides."""
    if mode == "hamming":
        return candidates(field, number, near, rows, None)
    alike = similarities(field, rows, content)
    if worst is not None:
        kept = alike >= worst
        near, rows, alike = near[kept], rows[kept], alike[kept]
    return candidates(field, number, near, rows, alike)


def reduced(block: Candidates, k: int, mode: str) -> Candidates:
    """Leave out what cannot be among the first k, without sorting everything."""
    if len(block) <= 4 * k:
        return block
    if mode != "hamming":
        limit = np.partition(block.similarity, len(block) - k)[len(block) - k]
        block = block.take(block.similarity >= limit)
        tied = block.similarity == limit
        if len(block) <= 4 * k or mode == "radius":
            return block
        sure, block = block.take(~tied), block.take(tied)
        return Candidates.joined([sure, reduced(block, k, "hamming")])
    limit = np.partition(block.ids[:, 0].astype(np.uint64), k - 1)[k - 1] if k else 0
    return block.take(block.ids[:, 0].astype(np.uint64) <= limit)


def _foremost(found: Candidates, k: int, mode: str) -> Candidates:
    """Without what lies beyond the k-th distance, and without ties at it that cannot be among the first k."""
    if not 0 < 4 * k < len(found):
        return found
    last = np.partition(found.distance, k - 1)[k - 1]
    nearer = found.take(found.distance < last)
    return Candidates.joined([nearer, reduced(found.take(found.distance == last), k - len(nearer), mode)])


def candidates(
    field: Field,
    number: int,
    near: NDArray[Any],
    rows: NDArray[np.int64],
    alike: NDArray[Any] | None,
) -> Candidates:
    """Rows of the field of that number, with their distances.

    alike: float32 [M], the similarities; or int8 or int16 [D], the content to compare with; None: not yet
    known.
    """
    ids = np.ascontiguousarray(field.part.segment.array("ids")[rows]).view(">u8").reshape(-1, 2)
    if alike is None:
        alike = np.zeros(len(rows), np.float32)
    elif alike.dtype != np.float32:
        alike = similarities(field, rows, alike)
    windows = np.full(len(rows), -1, np.int64)
    return Candidates(near, alike, np.full(len(rows), number, np.int64), rows, ids, windows)


def _compared(found: Candidates, fields: Sequence[Field], content: NDArray[Any]) -> Candidates:
    """With similarities: an order by distance and id alone has not asked for them."""
    alike = np.empty(len(found), np.float32)
    for number, field in enumerate(fields):
        own = found.part == number
        if own.any():
            alike[own] = similarities(field, found.position[own], content)
    return replace(found, similarity=alike)


def similarities(field: Field, rows: NDArray[np.int64], content: NDArray[Any]) -> NDArray[np.float32]:
    """Similarity of some rows to a content vector: float32 [M].

    int8: their correlation. int16: embeddings in fixed point, their dot product. Both are exact integers until
    the last division.
    """
    stored = field.part.segment.array("content")
    if content.dtype == np.int16:
        return _products(stored, rows, content)
    if len(rows) > BLOCK and field.codes.nbytes > hamming.SMALL:
        from medlike.codes.dots import dots

        # The caller is one of several threads already.
        products, squares = dots(stored, rows, content)
        own = int(content.astype(np.int64) @ content.astype(np.int64))
        lengths = np.sqrt(np.maximum(squares.astype(np.float64) * float(own), 1.0))
        return np.where(squares > 0, products / lengths, 0.0).astype(np.float32)
    pieces = [
        similarity(content, np.asarray(stored[rows[start : start + BLOCK]])) for start in range(0, len(rows), BLOCK)
    ]
    return np.concatenate(pieces) if pieces else np.empty(0, np.float32)


def _products(stored: NDArray[np.int16], rows: NDArray[np.int64], query: NDArray[np.int16]) -> NDArray[np.float32]:
    """Dot products of embeddings in fixed point. Exact integers, so that no machine orders them otherwise."""
    if len(rows) > FEW and stored.nbytes > hamming.SMALL:
        from medlike.codes.dots import products

        return (products(stored, rows, query) / UNIT**2).astype(np.float32)
    # Every partial sum is an integer below 2**53: float64 holds it exactly, in whatever order it is added.
    wide = query.astype(np.float64)
    pieces = [stored[rows[start : start + BLOCK]].astype(np.float64) @ wide for start in range(0, len(rows), BLOCK)]
    return (np.concatenate(pieces) / UNIT**2).astype(np.float32) if pieces else np.empty(0, np.float32)
