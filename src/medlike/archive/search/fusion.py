"""Several rankings made one by reciprocal rank fusion.

    score(image) = sum over rankings of weight / (60 + place of the image in it)

Only the first `depth` of each ranking count. The total order is (-score, id). Source: Cormack, Clarke and
Büttcher, Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods, SIGIR 2009.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field, candidates, ordered
from medlike.archive.index.index import positions_of
from medlike.errors import QueryError

SMOOTHING = 60
# The rankings: words (BM25 of the texts), texts (their meaning), pictures (what the pictures mean), image (how like
# the query's own image they are).
RANKINGS = ("words", "texts", "pictures", "image")


def weights(changed: Mapping[str, float] | None) -> dict[str, float]:
    """Return the weight of each ranking, 1 unless it is changed.

    Raises:
        QueryError: A ranking is unknown, a weight is no finite number of 0 or more, or all are 0.
    """
    weights = dict.fromkeys(RANKINGS, 1.0)
    if changed is not None and not isinstance(changed, Mapping):
        raise QueryError(f'weights is {changed!r}: give a mapping such as {{"words": 2, "texts": 0}}')
    for name, weight in (changed or {}).items():
        if name not in weights:
            raise QueryError(f"{name!r} is no ranking: use {', '.join(RANKINGS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise QueryError(f"the weight of {name} is {weight!r}: give a number, 0 or more")
        weights[name] = float(weight)
    if not any(weights.values()):
        raise QueryError("every weight is 0: give at least one ranking some weight")
    return weights


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
        stored = [field.part.segment.images[: field.part.rows] for field in self.fields]
        return self.members([positions_of(images, rows) for images in stored]).take(slice(0, k))

    def members(self, positions: Sequence[NDArray[np.int64]]) -> Candidates:
        """Return the images at some positions of each field that may be answered, in the order."""
        parts = []
        for number, (field, at) in enumerate(zip(self.fields, positions, strict=True)):
            at = field.allowed(at)
            scores = [-self.scores.get(row, 0.0) for row in field.part.segment.images[at].tolist()]
            parts.append(candidates(field, number, np.asarray(scores, np.float64), at, None))
        return ordered(Candidates.joined(parts), "content")

    def ranks(self, row: int) -> dict[str, int]:
        """The place of a row in each ranking that it is in."""
        return {name: places[row] for name, places in self.places.items() if row in places}


def image_rows(fields: Sequence[Field], ranked: Candidates, k: int) -> NDArray[np.int64]:
    """Return ranked candidates as rows of the store's images, each once, at most k: int64 [M]."""
    rows: dict[int, None] = {}
    for part, position in zip(ranked.part.tolist(), ranked.position.tolist(), strict=True):
        rows.setdefault(int(fields[part].part.segment.images[position]))
        if len(rows) == k:
            break
    return np.fromiter(rows, np.int64, len(rows))
