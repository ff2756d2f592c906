"""A sample of an archive's texts as sentence vectors, and how similar texts are that share no word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medlike.archive.index.bm25 import FUNCTION_WORDS, terms
from medlike.types import F32

LEAST_PAIRS = 200  # pairs that share no word
RARE = 0.05  # share of pairs of unrelated texts below the lower and above the upper limit


@dataclass(frozen=True)
class TextSample:
    """Hold texts of an archive as sentence vectors, and how similar unrelated ones are.

    Attributes:
        texts: How many texts the archive had.
        vectors: float32 [N, S], of unit length.
        low: Similarity that 95 in 100 pairs of unrelated texts reach; None if there are too few to judge.
        high: Similarity that 5 in 100 reach; None as for `low`.
    """

    texts: int
    vectors: F32
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, texts: int, sample: Sequence[str], vectors: F32) -> "TextSample":
        """Return the sample with its limits.

        Args:
            texts: How many texts the archive has.
            sample: N different texts of it.
            vectors: float32 [N, S], theirs.
        """
        words = [set(terms(text)) - FUNCTION_WORDS for text in sample]
        one, other = np.triu_indices(len(sample), 1)
        apart = np.asarray([words[a].isdisjoint(words[b]) for a, b in zip(one, other, strict=True)], bool)
        if np.count_nonzero(apart) < LEAST_PAIRS:
            return cls(texts, vectors)
        similarity = (vectors @ vectors.T)[one[apart], other[apart]]
        low, high = np.quantile(similarity, [RARE, 1 - RARE])
        return cls(texts, vectors, float(low), float(high))
