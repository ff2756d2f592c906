"""Precision, recall and gain of rankings with ties: expected over tie order, or exact by radius."""

from __future__ import annotations

import numpy as np

from medlike.errors import QueryError
from medlike.metrics.ties import TieCounts


def precision_at(counts: TieCounts, n: int) -> np.ndarray:
    """Return the share of relevant items among the first n, expected over tie order: float64 [Q].

    Args:
        counts: Tie groups of the queries.
        n: Items looked at; a smaller gallery is its own limit.

    Returns:
        The shares, 0..1; NaN for queries without a relevant item.

    Raises:
        QueryError: `n` is below 1.
    """
    hits, shown = _hits_at(counts, n)
    return np.where(counts.positives > 0, hits / np.maximum(shown, 1), np.nan)


def recall_at(counts: TieCounts, n: int) -> np.ndarray:
    """Return the share of the relevant items that are among the first n, expected over tie order: float64 [Q].

    Args:
        counts: Tie groups of the queries.
        n: Items looked at.

    Returns:
        The shares, 0..1; NaN for queries without a relevant item.

    Raises:
        QueryError: `n` is below 1.
    """
    hits, _ = _hits_at(counts, n)
    return _ratio(hits, counts.positives)


def _hits_at(counts: TieCounts, n: int) -> tuple[np.ndarray, np.ndarray]:
    if n < 1:
        raise QueryError(f"n is {n}; it must be at least 1")
    before = np.cumsum(counts.items, axis=1) - counts.items
    taken = np.clip(n - before, 0, counts.items)
    hits = (counts.relevant * (taken / np.maximum(counts.items, 1))).sum(axis=1)
    return hits, taken.sum(axis=1)


def within_radius(counts: TieCounts, radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision and recall within Hamming radius 0..radius, and how many items lie there.

    An empty radius counts as precision 0, as in the hashing literature. NaN for queries without relevant items.

    Args:
        counts: Tie groups of Hamming codes.
        radius: Largest radius, bits.

    Returns:
        Precision and recall float64 and items int64, each [Q, radius + 1].

    Raises:
        QueryError: `radius` is negative or beyond the length of the code.
    """
    if not 0 <= radius < counts.items.shape[1]:
        raise QueryError(f"radius {radius} is outside 0..{counts.items.shape[1] - 1}")
    found = np.cumsum(counts.items, axis=1)[:, : radius + 1]
    hits = np.cumsum(counts.relevant, axis=1)[:, : radius + 1].astype(np.float64)
    positives = counts.positives[:, None]
    precision = np.where(positives > 0, hits / np.maximum(found, 1), np.nan)
    return precision, _ratio(hits, positives), found


def recall_gain(recall: np.ndarray) -> np.ndarray:
    """Return the recall gained over radius 0, averaged over queries: float64 [R + 1].

    A curve that stays at 0 from the start means over-centralisation: one code a class, nothing between.

    Args:
        recall: float64 [Q, R + 1], as `within_radius` returns it.
    """
    mean = np.nanmean(recall, axis=0) if len(recall) and not np.isnan(recall).all() else recall.sum(axis=0)
    return mean - mean[0]


def precision_recall_curve(counts: TieCounts, levels: int = 21) -> np.ndarray:
    """Return the interpolated precision at recall 0, 1/(levels-1), ..., 1: float64 [Q, levels].

    A whole tie group enters at once (a threshold on distance), so the curve does not depend on tie order. The
    precision at a recall level is the highest at that recall or above.

    Source: Manning, Raghavan and Schütze, Introduction to Information Retrieval, section 8.4.

    Args:
        counts: Tie groups of the queries.
        levels: Number of recall levels, at least 2.

    Returns:
        The precisions, 0..1; NaN for queries without a relevant item.
    """
    found = np.cumsum(counts.items, axis=1)
    hits = np.cumsum(counts.relevant, axis=1)
    precision = hits / np.maximum(found, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    positives = counts.positives
    wanted = np.ceil(np.linspace(0, 1, levels)[None, :] * positives[:, None] - 1e-9)
    result = np.full((len(found), levels), np.nan)
    for query in np.flatnonzero(positives > 0):
        result[query] = envelope[query, np.searchsorted(hits[query], wanted[query], side="left")]
    return result


def ndcg(counts: TieCounts, k: int | None = None) -> np.ndarray:
    """Return nDCG with gain 1 for relevant items and discount 1 / log2(1 + rank), expected over tie order: [Q].

    Source: Järvelin and Kekäläinen, ACM TOIS 2002; under ties McSherry and Najork, ECIR 2008.

    Args:
        counts: Tie groups of the queries.
        k: Cut-off of both the ranking and the ideal one, None for the full list.

    Returns:
        float64 in 0..1; NaN for queries without a relevant item.

    Raises:
        QueryError: `k` is below 1.
    """
    return graded_ndcg(counts.items, counts.relevant.astype(np.float64), counts.positives, k)


def graded_ndcg(items: np.ndarray, gains: np.ndarray, ideal: np.ndarray, k: int | None = None) -> np.ndarray:
    """Return nDCG of tie groups with any gains, expected over tie order: [Q].

    Source: McSherry and Najork, ECIR 2008.

    Args:
        items: int [Q, G], items in each group.
        gains: float [Q, G], the sum of the gains in each group.
        ideal: int [Q], how many items have gain 1 (all others 0), or float [Q, N], the gains of all items.
        k: Cut-off of both the ranking and the ideal one, None for the full list.

    Returns:
        float64 in 0..1; NaN for queries whose ideal gain is 0.

    Raises:
        QueryError: `k` is below 1.
    """
    if k is not None and k < 1:
        raise QueryError(f"k is {k}; the cut-off must be at least 1")
    before = np.cumsum(items, axis=1) - items
    taken = items if k is None else np.clip(k - before, 0, items)
    size = int(items.sum(axis=1).max(initial=0))
    discount = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(1.0 + np.arange(1, size + 1)))])
    dcg = (gains / np.maximum(items, 1) * (discount[before + taken] - discount[before])).sum(axis=1)
    if ideal.ndim == 1:
        best = discount[np.minimum(ideal, size if k is None else min(k, size))]
    else:
        ordered = -np.sort(-ideal, axis=1)[:, :k]
        best = (ordered * np.diff(discount)[: ordered.shape[1]]).sum(axis=1)
    return _ratio(dcg, best)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole as float64; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
