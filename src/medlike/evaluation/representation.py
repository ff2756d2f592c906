"""The two forms of images that can be ranked: packed codes and float features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from medlike.datasets import Dataset
from medlike.errors import QueryError
from medlike.metrics import Relevance, RetrievalScores, score_codes, score_features


@dataclass(frozen=True)
class Representation:
    """Hold N images as packed codes or as float features, exactly one of the two.

    Attributes:
        codes: uint8 [N, bits / 8], ranked by Hamming distance.
        features: float [N, D], ranked by cosine.
    """

    codes: np.ndarray | None = None
    features: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.codes is None) == (self.features is None):
            raise QueryError("a representation is either codes or features")

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, rows: np.ndarray) -> Representation:
        return Representation(*(None if part is None else part[rows] for part in (self.codes, self.features)))

    @property
    def _vectors(self) -> np.ndarray:
        vectors = self.features if self.codes is None else self.codes
        assert vectors is not None
        return vectors

    @property
    def bits(self) -> int | None:
        """Return the length of the code, None for features."""
        return None if self.codes is None else self.codes.shape[1] * 8

    @property
    def bytes_per_image(self) -> int:
        """Return what one image costs in an index."""
        return int(self._vectors[:1].nbytes) if len(self) else 0


Encode: TypeAlias = Callable[[Dataset], Representation]


def rank(query: Representation, gallery: Representation, relevance: Relevance, k: int = 100) -> RetrievalScores:
    """Return all retrieval metrics of one representation: codes by Hamming distance, features by cosine.

    Args:
        query: Q queries.
        gallery: N gallery images of the same kind.
        relevance: Which gallery image is relevant to which query.
        k: Cut-off of the metrics that have one.

    Raises:
        QueryError: One side holds codes and the other features, or shapes do not fit.
    """
    if query.codes is not None and gallery.codes is not None:
        return score_codes(query.codes, gallery.codes, relevance, k)
    if query.features is not None and gallery.features is not None:
        return score_features(query.features, gallery.features, relevance, k)
    raise QueryError("queries and gallery are of two kinds: codes and features cannot be compared")
