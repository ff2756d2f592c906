"""Several rankings made one by reciprocal rank fusion.

    score(image) = sum over rankings of weight / (60 + place of the image in it)

Only the first `depth` of each ranking count. The total order is (-score, id). Source: Cormack, Clarke and
Büttcher, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods, SIGIR 2009.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered
from medlike.errors import QueryError

SMOOTHING = 60
# The rankings: words (BM25 of the texts), texts (their meaning), pictures (what the pictures mean), image (how like
# the query's own image they are).
RANKINGS = ("words", "texts", "pictures", "image")


def weights(given: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of each ranking: 1 unless given. Raises QueryError for an unknown ranking or a useless weight."""
    found = dict.fromkeys(RANKINGS, 1.0)
    if given is not None and not isinstance(given, Mapping):
        raise QueryError(f'weights is {given!r}: give a mapping such as {{"words": 2, "texts": 0}}')
    for name, weight in (given or {}).items():
        if name not in found:
            raise QueryError(f"{name!r} is no ranking: use {', '.join(RANKINGS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise QueryError(f"the weight of {name} is {weight!r}: give a number, 0 or more")
        found[name] = float(weight)
    if not any(found.values()):
        raise QueryError("every weight is 0: give at least one ranking some weight")
    return found


class FusedRanking:
    """Rankings of images as one; has the two methods of every ranking."""

    def __init__(
        self, fields: Sequence[Field], rankings: Mapping[str, NDArray[np.int64]], weights: Mapping[str, float]
    ) -> None:
        """fields: of the index of images. rankings: name -> rows of the store in order, each once."""
        self.fields = fields
        self.places = {
            name: {row: place for place, row in enumerate(rows.tolist(), 1)} for name, rows in rankings.items()
        }
        self.scores: dict[int, float] = {}
        for name in RANKINGS:  # in one order, so that the sums are the same each time
            for row, place in self.places.get(name, {}).items():
                self.scores[row] = self.scores.get(row, 0.0) + weights[name] / (SMOOTHING + place)

    def first(self, k: int) -> Candidates:
        """The first k images; `distance` is minus the score."""
        rows = np.sort(np.fromiter(self.scores, np.int64))
        found = [
            self._candidates(number, field.allowed(_positions(field, rows))) for number, field in enumerate(self.fields)
        ]
        return ordered(Candidates.joined(found), "content").take(slice(0, k))

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        """Given positions of each field, those that may be answered, in no order."""
        pairs = enumerate(zip(self.fields, positions, strict=True))
        return Candidates.joined([self._candidates(number, field.allowed(chosen)) for number, (field, chosen) in pairs])

    def ranks(self, row: int) -> dict[str, int]:
        """The place of a row in each ranking that it is in."""
        return {name: places[row] for name, places in self.places.items() if row in places}

    def _candidates(self, number: int, positions: NDArray[np.int64]) -> Candidates:
        field = self.fields[number]
        rows = field.part.segment.images[positions].tolist()
        scores = np.asarray([-self.scores.get(row, 0.0) for row in rows], np.float64)
        return candidates(field, number, scores, positions, None)


def image_rows(fields: Sequence[Field], found: Candidates, k: int) -> NDArray[np.int64]:
    """Ranked candidates as rows of the store's images, each once, at most k: int64 [m]."""
    rows: dict[int, Any] = {}
    for part, position in zip(found.part.tolist(), found.position.tolist(), strict=True):
        rows.setdefault(int(fields[part].part.segment.images[position]), None)
        if len(rows) == k:
            break
    return np.fromiter(rows, np.int64, len(rows))


def _positions(field: Field, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where images of the store (ascending rows) are in a field of images: those that are there."""
    held = field.part.segment.images[: field.part.rows]
    if not len(held) or not len(rows):
        return np.empty(0, np.int64)
    at = np.searchsorted(held, rows)
    inside = at < len(held)
    at = at[inside]
    positions: NDArray[np.int64] = at[held[at] == rows[inside]]
    return positions
