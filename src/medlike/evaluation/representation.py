"""What a method says of images, in the two forms that can be ranked."""

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
    """N images as packed codes or as float features, exactly one of the two.

    codes: uint8 [N, bits / 8], ranked by Hamming distance. features: float [N, D], ranked by cosine.
    outlier: float [N], higher is less typical, or None. outlier_p: its p-value [N], or None.
    """

    codes: np.ndarray | None = None
    features: np.ndarray | None = None
    outlier: np.ndarray | None = None
    outlier_p: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.codes is None) == (self.features is None):
            raise QueryError("a representation is either codes or features")

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, rows: np.ndarray) -> Representation:
        parts = (self.codes, self.features, self.outlier, self.outlier_p)
        return Representation(*(None if part is None else part[rows] for part in parts))

    @property
    def _vectors(self) -> np.ndarray:
        vectors = self.features if self.codes is None else self.codes
        assert vectors is not None
        return vectors

    @property
    def bits(self) -> int | None:
        """Length of the code, None for features."""
        return None if self.codes is None else self.codes.shape[1] * 8

    @property
    def bytes_per_image(self) -> int:
        """What one image costs in an index."""
        return int(self._vectors[:1].nbytes) if len(self) else 0


Encode: TypeAlias = Callable[[Dataset], Representation]


def rank(query: Representation, gallery: Representation, relevance: Relevance, k: int = 100) -> RetrievalScores:
    """All retrieval metrics of one representation: codes by Hamming distance, features by cosine."""
    if query.codes is not None and gallery.codes is not None:
        return score_codes(query.codes, gallery.codes, relevance, k)
    if query.features is not None and gallery.features is not None:
        return score_features(query.features, gallery.features, relevance, k)
    raise QueryError("queries and gallery are of two kinds: codes and features cannot be compared")
