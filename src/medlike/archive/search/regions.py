"""Ranking by region: the nearest window of each image, in the total order (distance, -similarity, id)."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.ranking import rank
from medlike.codes import hamming
from medlike.codes.templates import CELLS, GRID, Template
from medlike.codes.windows import Matches, match

FIRST, MOST = 1024, 65_536  # images between two looks at the k-th best so far, at first and at most


class RegionRanking:
    """One region against the fields of an archive.

    weight: of the region in the distance, above 0, at most 1; the rest is the share of differing bits of the
    whole images' codes. shortlist: only so many images, the nearest by their whole codes, are looked at;
    None: all.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        encoded: EncodedQuery,
        template: Template,
        mode: str = "content",
        weight: float = 1.0,
        shortlist: int | None = None,
    ) -> None:
        self.fields = fields
        self.encoded = encoded
        self.template = template
        # The orders of whole images say nothing of a region: they order it as "content".
        self.mode = mode if mode == "hamming" else "content"
        self.weight = weight
        self._shortlisted = self._nearest_whole(shortlist)

    def first(self, k: int) -> Candidates:
        """The first k images."""
        best = Candidates.joined([])
        for number, rows in self._passes():
            limit = float(best.distance[-1]) if len(best) >= k else np.inf
            matched = self._matched(number, rows, limit)
            if len(matched):
                best = ordered(Candidates.joined([best, matched]), self.mode).take(slice(0, k))
        return best

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        """Given positions of each field, those that may be answered, in the order."""
        parts = []
        for number, (field, chosen) in enumerate(zip(self.fields, positions, strict=True)):
            allowed = field.allowed(chosen)
            if self._shortlisted is not None:
                allowed = np.intersect1d(allowed, self._shortlisted[number])
            parts.append(self._matched(number, allowed, np.inf))
        return ordered(Candidates.joined(parts), self.mode)

    def _passes(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        step = FIRST
        for number, field in enumerate(self.fields):
            rows = np.arange(field.part.rows) if self._shortlisted is None else self._shortlisted[number]
            start = 0
            while start < len(rows):
                yield number, field.allowed(rows[start : start + step])
                start += step
                step = min(2 * step, MOST)

    def _matched(self, number: int, rows: NDArray[np.int64], limit: float) -> Candidates:
        field = self.fields[number]
        segment = field.part.segment
        limits: float | NDArray[np.float64] = limit
        whole: NDArray[np.float64] = np.empty(0)
        if self.weight < 1 and len(rows):
            codes = np.ascontiguousarray(segment.array("codes")[rows])
            whole = hamming.distances(codes, self.encoded.code, "numpy") / (8 * len(self.encoded.code))
            # Wider than needed by rounding; the sum itself decides below.
            limits = (limit - (1 - self.weight) * whole) / self.weight + 1e-9
        matches = match(segment.array("cells", rows), segment.array("cell_mask", rows), self.template, rows, limits)
        distance = matches.distance
        if self.weight < 1 and len(rows):
            at = np.searchsorted(rows, matches.rows)
            distance = self.weight * matches.distance + (1 - self.weight) * whole[at]
        mask = distance <= limit
        rows, distance = matches.rows[mask], distance[mask]
        made = candidates(field, number, distance, rows, self.encoded.content)
        return made.with_windows(_windows(matches)[mask])

    def _nearest_whole(self, shortlist: int | None) -> list[NDArray[np.int64]] | None:
        if shortlist is None:
            return None
        near = rank(self.fields, self.encoded.code, self.encoded.content, shortlist, "hamming")
        return [np.sort(near.position[near.part == number]) for number in range(len(self.fields))]


def _windows(matches: Matches) -> NDArray[np.int64]:
    return matches.arrangement * CELLS + matches.top * GRID + matches.left


def window(template: Template, number: int) -> tuple[int, int, int]:
    """A candidate's window: which arrangement, its first row, its first column."""
    arrangement, place = divmod(number, CELLS)
    return arrangement, place // GRID, place % GRID
