"""The total orders of hits, without holding every tie in memory.

Codes collide: in a large archive a million images can be equally near. Only those at the distance of the last
hit are compared by content, block by block, so memory does not grow with their number.

    content     (distance, -similarity, id)
    hamming     (distance, id)
    radius      (-similarity, distance, id), of those within a radius
    exact       (-similarity, id): a scan of content vectors
    shortlist   the first SHORTLIST_IMAGES of `content` by (-similarity, id), then the rest of `content`
    neighbours  the same with the first MEMBERS of the shortlist re-ranked, and the one first that the query is most
                likely an altered copy of, where the fit can tell (codes/reranking.py)

In every order the first k are the start of any longer list.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered, reduced, similarities
from medlike.archive.search.study_ranking import members_for_study, rank_study
from medlike.codes import hamming
from medlike.codes.buckets import BITS
from medlike.codes.reranking import SHORTLIST_IMAGES
from medlike.codes.threads import share
from medlike.types import I16, Array

#: Orders that re-rank the first of the order "content".
SHORTLISTED = ("shortlist", "neighbours")

Answer = tuple[NDArray[np.int32], NDArray[np.int64], int]


class WholeRanking:
    """One query by its whole code and content vector; the other rankings have the same two methods.

    Attributes:
        nearest: The start of the order "content" as far as `first` had to know it, None if it had not.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        code: NDArray[np.uint8],
        content: Array,
        mode: str = "content",
        radius: int | None = None,
        known: Sequence[Answer] | None = None,
        invariant: I16 | None = None,
    ) -> None:
        """Take the arguments of `rank`, and `Fit.invariant`; `mode` may be any order.

        Code and content may also be those of several images, one row for each (study_ranking.py).
        """
        self.invariant = invariant
        self.fields, self.code, self.content = fields, code, content
        self.mode, self.radius, self.known = mode, radius, known
        self.nearest: Candidates | None = None
        self._short: Candidates | None = None  # the shortlist in its own order, which is the same for every k

    def first(self, k: int) -> Candidates:
        """Return the first k images."""
        shortlisted = self.mode in SHORTLISTED
        mode, depth = ("content", max(k, SHORTLIST_IMAGES)) if shortlisted else (self.mode, k)
        if self.code.ndim == 2:
            ranked = rank_study(self.fields, self.code, self.content, depth, mode, self.radius)
        else:
            ranked = rank(self.fields, self.code, self.content, depth, mode, self.radius, self.known)
        self.nearest = ranked if mode == "content" else None
        if shortlisted:
            if self._short is None:
                self._short = self._shortlist(ranked)
            ranked = Candidates.joined([self._short, ranked.take(slice(SHORTLIST_IMAGES, None))])
        return ranked.take(slice(0, k))

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        """Return the images at given positions of each field that may be answered, in the order."""
        compare = members_for_study if self.code.ndim == 2 else members
        chosen = compare(self.fields, self.code, self.content, positions)
        if self.radius is not None:
            chosen = chosen.take(chosen.distance <= self.radius)
        if self.mode not in SHORTLISTED:
            return ordered(chosen, self.mode)
        chosen = ordered(chosen, "content")
        shortlist = self.first(SHORTLIST_IMAGES) if self._short is None else self._short
        places = {pair: place for place, pair in enumerate(_pairs(shortlist))}
        return chosen.take(np.argsort([places.get(pair, SHORTLIST_IMAGES) for pair in _pairs(chosen)], kind="stable"))

    def _shortlist(self, ranked: Candidates) -> Candidates:
        """Return the first SHORTLIST_IMAGES of the order "content" in their own order."""
        shortlist = ordered(ranked.take(slice(0, SHORTLIST_IMAGES)), "exact")
        if self.mode == "neighbours":
            from medlike.codes.reranking import MEMBERS, original_first, reranked

            first = shortlist.take(slice(0, MEMBERS))
            contents = self._contents(first)
            order = reranked(self.content, contents)
            first = first.take(original_first(self.content, contents, order, self.invariant))
            shortlist = Candidates.joined([first, shortlist.take(slice(MEMBERS, None))])
        return shortlist

    def _contents(self, rows: Candidates) -> NDArray[np.int8]:
        """Return the content vectors of some rows: int8 [M, D]."""
        vectors = np.empty((len(rows), self.content.shape[-1]), np.int8)
        for number, field in enumerate(self.fields):
            inside = rows.part == number
            positions = rows.position[inside]
            vectors[inside] = field.part.segment.array("content", positions)[positions]
        return vectors


def _pairs(rows: Candidates) -> list[tuple[int, int]]:
    """Return where rows are: their part and position."""
    return list(zip(rows.part.tolist(), rows.position.tolist(), strict=True))


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

    code: uint8 [bits / 8]; content: int8 [D]; mode: any but those in SHORTLISTED, which `WholeRanking` makes. first:
    `hamming.nearest_and_more` of each field for `reach(field, k)` rows, where it is known already.
    """
    if mode == "exact" and radius is None:
        return _best(fields, code, content, k, mode, None)
    if mode in ("radius", "exact"):
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
    distances: tuple[int, int] | None,
) -> Candidates:
    """The first k of all rows between two distances (both included; None: of all), block by block on all cores.

    A core holds one block and k more, however many rows there are.
    """
    blocks = [
        (number, start) for number, field in enumerate(fields) for start in range(0, field.part.rows, hamming.STEP)
    ]

    def worker(counter: "itertools.count[int]") -> Candidates:
        best = Candidates.joined([])
        while (turn := next(counter)) < len(blocks):
            number, start = blocks[turn]
            for near, rows in _rows_of_block(fields[number], code, start, distances):
                worst = best.similarity[-1] if mode != "hamming" and len(best) >= k else None
                block = _contenders(fields[number], number, code, near, rows, content, mode, k, worst)
                best = ordered(Candidates.joined([best, reduced(block, k, mode)]), mode).take(slice(0, k))
        return best

    if k <= 0:
        return Candidates.joined([])
    return ordered(Candidates.joined(share(len(blocks), worker)), mode).take(slice(0, k))


def _rows_of_block(
    field: Field, code: NDArray[np.uint8], start: int, distances: tuple[int, int] | None
) -> Iterator[tuple[NDArray[np.int32] | None, NDArray[np.int64]]]:
    """The rows of one block of a field that may be answered and lie between two distances, with their distances."""
    part = slice(start, min(start + hamming.STEP, field.part.rows))
    if distances is None:
        yield None, field.allowed(np.arange(part.start, part.stop))
        return
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
    code: NDArray[np.uint8],
    near: NDArray[np.int32] | None,
    rows: NDArray[np.int64],
    content: Array,
    mode: str,
    k: int,
    worst: np.float32 | None,
) -> Candidates:
    """Rows as candidates, without those less similar than `worst`, or than k of them, where that decides.

    near: None if the distances are not yet known.
    """
    if mode == "hamming" and near is not None:
        return candidates(field, number, near, rows, None)
    alike = similarities(field, rows, content)
    if worst is None and len(alike) > 4 * k:
        worst = np.partition(alike, len(alike) - k)[len(alike) - k]
    if worst is not None:
        mask = alike >= worst
        near, rows, alike = None if near is None else near[mask], rows[mask], alike[mask]
    if near is None:
        near = hamming.distances(np.ascontiguousarray(field.codes[rows]), code, "numpy")
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


