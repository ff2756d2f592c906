"""All retrieval metrics of one ranking method on one set of queries, per query and on average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from medlike.errors import QueryError
from medlike.metrics.average_precision import average_precision
from medlike.metrics.ranking import ndcg, precision_at, precision_recall_curve, recall_at, within_radius
from medlike.metrics.ties import Relevance, TieCounts, feature_counts, hamming_counts

DEFAULT_K = 100
PRECISION_AT = (1, 5, 10, 50, 100)


@dataclass(frozen=True)
class RetrievalScores:
    """Per-query scores. Queries without a relevant item are NaN everywhere and left out of every mean.

    All scores lie in 0..1, and higher is better.

    Attributes:
        k: Cut-off of the metrics that have one.
        values: Metric -> float64 [Q]: map_expected, map_worst, map_best, map_at_k, map_at_k_hits, ndcg, ndcg_at_k,
            precision_at_N and recall_at_N.
        precision_within: Precision within Hamming radius 0..R: [Q, R + 1] for codes, [Q, 0] for features.
        recall_within: Recall within each radius, likewise.
        found_within: Items within each radius, int64, likewise.
        curve: Interpolated precision at 21 recall levels [Q, 21].
    """

    k: int
    values: Mapping[str, np.ndarray]
    precision_within: np.ndarray
    recall_within: np.ndarray
    found_within: np.ndarray
    curve: np.ndarray

    @property
    def queries(self) -> int:
        """Return the number of queries, those without a relevant item included."""
        return len(self.curve)

    @property
    def without_relevant(self) -> int:
        """Return the number of queries that have no relevant item in the gallery."""
        return int(np.isnan(self.values["map_expected"]).sum())

    def mean(self, name: str) -> float:
        """Return the mean of one metric over the queries that have a relevant item; NaN if none has."""
        values = self.values[name]
        return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else float("nan")

    def means(self) -> dict[str, float]:
        """Return every metric's mean, by name."""
        return {name: self.mean(name) for name in self.values}


def score_codes(
    query_codes: np.ndarray, codes: np.ndarray, relevance: Relevance | np.ndarray, k: int = DEFAULT_K
) -> RetrievalScores:
    """Return every metric for packed codes ranked by Hamming distance.

    Args:
        query_codes: uint8 [Q, B].
        codes: uint8 [N, B] of the gallery, the same B.
        relevance: A Relevance, or bool [Q, N].
        k: Cut-off of the metrics that have one.

    Raises:
        QueryError: Shapes do not fit, or `k` is below 1.
    """
    counts = hamming_counts(query_codes, codes, relevance)
    return score(counts, k, radius=(counts.items.shape[1] - 1) // 4)


def score_features(
    query_features: np.ndarray, features: np.ndarray, relevance: Relevance | np.ndarray, k: int = DEFAULT_K
) -> RetrievalScores:
    """Return every metric for float features ranked by cosine similarity.

    Args:
        query_features: float [Q, D], normalised here.
        features: float [N, D] of the gallery, likewise.
        relevance: A Relevance, or bool [Q, N].
        k: Cut-off of the metrics that have one.

    Raises:
        QueryError: Shapes do not fit, a row is zero or not finite, there is no query, or `k` is below 1.
    """
    return merge(score(counts, k) for counts in feature_counts(query_features, features, relevance))


def score(counts: TieCounts, k: int = DEFAULT_K, radius: int | None = None) -> RetrievalScores:
    """Return every metric from tie counts.

    Args:
        counts: Tie groups of the queries.
        k: Cut-off of the metrics that have one.
        radius: Largest Hamming radius for precision and recall within a radius; None leaves these out.

    Raises:
        QueryError: `k` is below 1, or `radius` is out of range.
    """
    values = {
        "map_expected": average_precision(counts),
        "map_worst": average_precision(counts, order="worst"),
        "map_best": average_precision(counts, order="best"),
        "map_at_k": average_precision(counts, k),
        "map_at_k_hits": average_precision(counts, k, denominator="hits"),
        "ndcg": ndcg(counts),
        "ndcg_at_k": ndcg(counts, k),
        **{f"precision_at_{n}": precision_at(counts, n) for n in PRECISION_AT},
        **{f"recall_at_{n}": recall_at(counts, n) for n in PRECISION_AT},
    }
    # Without a radius the three arrays have no column.
    columns = 0 if radius is None else radius + 1
    precision, recall, found = (part[:, :columns] for part in within_radius(counts, radius or 0))
    return RetrievalScores(k, values, precision, recall, found, precision_recall_curve(counts))


def merge(parts: Iterable[RetrievalScores]) -> RetrievalScores:
    """Merge the scores of batches of queries, in order.

    Raises:
        QueryError: There is no batch.
    """
    batches = list(parts)
    if not batches:
        raise QueryError("there are no queries: nothing can be measured")
    first = batches[0]
    arrays = ("precision_within", "recall_within", "found_within", "curve")
    return RetrievalScores(
        k=first.k,
        values={name: np.concatenate([batch.values[name] for batch in batches]) for name in first.values},
        **{name: np.concatenate([getattr(batch, name) for batch in batches]) for name in arrays},
    )
