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

    values: name -> float64 [Q] (map_expected, map_worst, map_best, map_at_k, map_at_k_hits, ndcg, ndcg_at_k,
    precision_at_N, recall_at_N). precision_within, recall_within: [Q, R + 1] for codes, [Q, 0] for features.
    found_within: items within each radius, int64. curve: interpolated precision at 21 recall levels [Q, 21].
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
        """Return the mean of one metric over the queries that count; NaN if none does."""
        values = self.values[name]
        return float(np.nanmean(values)) if len(values) and not np.isnan(values).all() else float("nan")

    def means(self) -> dict[str, float]:
        """Return every metric's mean, by name."""
        return {name: self.mean(name) for name in self.values}


def score_codes(
    query_codes: np.ndarray, codes: np.ndarray, relevance: Relevance | np.ndarray, k: int = DEFAULT_K
) -> RetrievalScores:
    """Return every metric for packed codes ranked by Hamming distance. uint8 [Q, B] and uint8 [N, B]."""
    counts = hamming_counts(query_codes, codes, relevance)
    return score(counts, k, radius=(counts.items.shape[1] - 1) // 4)


def score_features(
    query_features: np.ndarray, features: np.ndarray, relevance: Relevance | np.ndarray, k: int = DEFAULT_K
) -> RetrievalScores:
    """Return every metric for float features ranked by cosine similarity. [Q, D] and [N, D]."""
    return merge(score(counts, k) for counts in feature_counts(query_features, features, relevance))


def score(counts: TieCounts, k: int = DEFAULT_K, radius: int | None = None) -> RetrievalScores:
    """Return every metric from tie counts. radius: the largest for precision and recall within a radius."""
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
    queries = len(counts.items)
    if radius is None:
        empty = np.zeros((queries, 0))
        precision, recall, found = empty, empty, np.zeros((queries, 0), np.int64)
    else:
        precision, recall, found = within_radius(counts, radius)
    return RetrievalScores(k, values, precision, recall, found, precision_recall_curve(counts))


def merge(parts: Iterable[RetrievalScores]) -> RetrievalScores:
    """Merge the scores of batches of queries, in order. Raises QueryError if there is none."""
    batches = list(parts)
    if not batches:
        raise QueryError("there are no queries: nothing can be measured")
    return RetrievalScores(
        k=batches[0].k,
        values={n: np.concatenate([b.values[n] for b in batches]) for n in batches[0].values},
        precision_within=np.concatenate([b.precision_within for b in batches]),
        recall_within=np.concatenate([b.recall_within for b in batches]),
        found_within=np.concatenate([b.found_within for b in batches]),
        curve=np.concatenate([b.curve for b in batches]),
    )
