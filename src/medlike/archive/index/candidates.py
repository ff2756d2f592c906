"""Candidates: rows of an index with their distances, and their total order.

A field is what a search may answer of one part of an index: the rows that live, pass the filter and are not the
query itself. Candidates carry what the total order needs: distance, similarity and id.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.index import Part
from medlike.archive.index.segment import UNIT
from medlike.codes import hamming
from medlike.inference.encoding import similarity
from medlike.types import Array, Mask

FEW = 256  # rows left out that are cheaper to drop from the answer than to mask in the scan
BLOCK = 1 << 14  # content vectors compared at a time


@dataclass(frozen=True)
class Candidates:
    """Ranked rows: distance int32, or float64 for regions [M]; similarity float32 [M]; part, position int64 [M].

    ids: >u8 [M, 2]. windows: int64 [M], where in the image a region was found (see regions.py), -1 for none.
    """

    distance: Array
    similarity: NDArray[np.float32]
    part: NDArray[np.int64]
    position: NDArray[np.int64]
    ids: Array
    windows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.distance)

    def take(self, order: NDArray[np.int64] | Mask | slice) -> "Candidates":
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


class Masking(Protocol):
    """What chooses rows of a part; `filters.Filter` does."""

    def mask(self, part: Part) -> Mask | None:
        """Return which rows of a part pass: bool [part.rows], or None if all do."""
        ...


@dataclass(frozen=True)
class Field:
    """The rows of one part that may be answered: those of `mask` (None = all) without `skip` (positions)."""

    part: Part
    mask: NDArray[np.bool_] | None
    skip: NDArray[np.int64]

    @staticmethod
    def of(part: Part, filter: Masking | None = None) -> "Field":
        """Return the rows of a part that live and pass a filter; without one all pass."""
        mask = None if filter is None else filter.mask(part)
        return Field(part, mask, np.empty(0, np.int64)).without(part.dead)

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

    def coded(self) -> "Field":
        """Return the same without the texts that have no cross-modal code."""
        without = np.flatnonzero(self.part.segment.array("coded")[: self.part.rows] == 0)
        return self.without(without) if len(without) else self

    @property
    def codes(self) -> NDArray[np.uint8]:
        """Return the codes of the part's rows: uint8 [rows, bits / 8]."""
        return self.part.segment.array("codes")[: self.part.rows]

    def allowed(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some positions that may be answered."""
        if self.mask is not None:
            positions = positions[self.mask[positions]]
        return positions[self.unskipped(positions)]

    def unskipped(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some positions are not skipped: bool [M]."""
        if not len(self.skip):
            return np.ones(len(positions), bool)
        # Not np.isin, which takes as long as a scan of a megabyte.
        at = np.minimum(self.skip.searchsorted(positions), len(self.skip) - 1)
        differs: NDArray[np.bool_] = self.skip[at] != positions
        return differs


def candidates(
    field: Field,
    number: int,
    near: Array,
    rows: NDArray[np.int64],
    alike: Array | None,
) -> Candidates:
    """Rows of the field of that number, with their distances.

    alike: float32 [M], the similarities; or int8 or int16 [D], the content to compare with; None: not yet
    known.
    """
    ids = np.ascontiguousarray(field.part.segment.array("ids", rows)[rows]).view(">u8").reshape(-1, 2)
    if alike is None:
        alike = np.zeros(len(rows), np.float32)
    elif alike.dtype != np.float32:
        alike = similarities(field, rows, alike)
    windows = np.full(len(rows), -1, np.int64)
    return Candidates(near, alike, np.full(len(rows), number, np.int64), rows, ids, windows)


def ordered(rows: Candidates, mode: str) -> Candidates:
    """In the total order of a mode."""
    low, high = rows.ids[:, 1], rows.ids[:, 0]
    if mode == "hamming":
        return rows.take(np.lexsort((low, high, rows.distance)))
    if mode == "radius":
        return rows.take(np.lexsort((low, high, rows.distance, -rows.similarity)))
    if mode == "exact":
        return rows.take(np.lexsort((low, high, -rows.similarity)))
    return rows.take(np.lexsort((low, high, -rows.similarity, rows.distance)))


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


def similarities(field: Field, rows: NDArray[np.int64], content: Array) -> NDArray[np.float32]:
    """Similarity of some rows to a content vector: float32 [M].

    int8: their correlation. int16: embeddings in fixed point, their dot product. Both are exact integers until
    the last division.
    """
    stored = field.part.segment.array("content", rows)
    if content.dtype == np.int16:
        return _products(stored, rows, content)
    if len(rows) > BLOCK and field.codes.nbytes > hamming.SMALL:
        from medlike.codes.dots import dots

        # The caller is one of several threads already.
        products, squares = dots(stored, rows, content)
        square = int(content.astype(np.int64) @ content.astype(np.int64))
        lengths = np.sqrt(np.maximum(squares.astype(np.float64) * float(square), 1.0))
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
