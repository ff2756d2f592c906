"""Average precision under ties: expectation over random tie order in closed form, worst and best order.

A tie group that begins after N0 items with R0 relevant ones and holds n items, r of them relevant, adds to
the numerator of AP, in expectation over all orders of the group (McSherry and Najork, ECIR 2008):

    sum over i = 1..n of  r/n * (R0 + 1 + (i - 1) (r - 1) / (n - 1)) / (N0 + i)

because the item at place i is relevant with probability r/n, and then each of the i - 1 before it with
(r - 1)/(n - 1). Sums of 1/(N0 + i) are differences of harmonic numbers, so a group costs a few operations.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from medlike.errors import QueryError
from medlike.metrics.ties import TieCounts

Order = Literal["expected", "worst", "best"]
Denominator = Literal["relevant", "hits"]


def average_precision(
    counts: TieCounts, k: int | None = None, order: Order = "expected", denominator: Denominator = "relevant"
) -> np.ndarray:
    """Return the average precision of every query: float64 [Q] in 0..1, NaN for queries without a relevant item.

    Args:
        counts: Tie groups of the queries.
        k: Cut-off, None for the full list.
        order: What is assumed of ties.
        denominator: "relevant" divides by min(k, relevant items in the gallery); "hits" by the relevant hits in the
            top k (0 hits give 0).

    Raises:
        QueryError: `k` is below 1, or `order` or `denominator` is unknown.
    """
    if k is not None and k < 1:
        raise QueryError(f"k is {k}; the cut-off must be at least 1")
    before, relevant_before, items, relevant, taken = _cut(counts, k)
    positives = counts.positives
    if order == "expected":
        first = relevant
        inside = _expected(before, relevant_before, items, relevant, taken)
    elif order == "worst":
        first = np.maximum(0, taken - (items - relevant))
        inside = _block(before + taken - first, relevant_before, first)
    elif order == "best":
        first = np.minimum(relevant, taken)
        inside = _block(before, relevant_before, first)
    else:
        raise QueryError(f"order {order!r} is unknown; take expected, worst or best")
    if denominator == "relevant":
        divisor = positives if k is None else np.minimum(positives, k)
    elif denominator != "hits":
        raise QueryError(f"denominator {denominator!r} is unknown; take relevant or hits")
    elif order == "expected" and k is not None:
        return np.where(positives > 0, _expected_over_hits(counts, k, inside), np.nan)
    else:
        divisor = np.where(taken > 0, relevant_before + first, 0).max(axis=1, initial=0)
    return np.where(positives == 0, np.nan, inside.sum(axis=1) / np.maximum(divisor, 1))


def _cut(counts: TieCounts, k: int | None) -> tuple[np.ndarray, ...]:
    items, relevant = counts.items, counts.relevant
    before = np.cumsum(items, axis=1) - items
    relevant_before = np.cumsum(relevant, axis=1) - relevant
    taken = items if k is None else np.clip(k - before, 0, items)
    return before, relevant_before, items, relevant, taken


def _harmonic(top: int) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, top + 1))])


def _sums(before: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sums of 1/(before + i) and of (i - 1)/(before + i) over places i = 1..taken after `before`."""
    harmonic = _harmonic(int((before + taken).max(initial=0)))
    inverse = harmonic[before + taken] - harmonic[before]
    return inverse, taken - (before + 1) * inverse


def _expected(
    before: np.ndarray, relevant_before: np.ndarray, items: np.ndarray, relevant: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    inverse, later = _sums(before, taken)
    share = relevant / np.maximum(items, 1)
    others = (relevant - 1) / np.maximum(items - 1, 1)
    return share * ((relevant_before + 1) * inverse + others * later)


def _block(before: np.ndarray, relevant_before: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the sum of (R0 + j) / (before + j), j = 1..count: `count` relevant items in a row after `before`."""
    harmonic = _harmonic(int((before + count).max(initial=0)))
    inverse = harmonic[before + count] - harmonic[before]
    return count - (before - relevant_before) * inverse


def _expected_over_hits(counts: TieCounts, k: int, inside: np.ndarray) -> np.ndarray:
    """Return E[numerator / hits in the top k]; both are random only in the group that the cut-off divides.

    The number x of its relevant items that make the cut is hypergeometric; given x, the numerator is that of
    x relevant items in random order over the places that make the cut.
    """
    before, relevant_before, items, relevant, taken = _cut(counts, k)
    divided = (taken > 0) & (taken < items)
    result = np.zeros(len(items))
    whole = ~divided.any(axis=1)
    hits = np.where(taken > 0, relevant_before + relevant, 0).max(axis=1, initial=0)
    some = whole & (hits > 0)
    result[some] = inside[some].sum(axis=1) / hits[some]
    for query in np.flatnonzero(~whole):
        group = int(np.argmax(divided[query]))
        n0, r0 = int(before[query, group]), int(relevant_before[query, group])
        n, r, m = int(items[query, group]), int(relevant[query, group]), int(taken[query, group])
        earlier = inside[query, :group].sum()
        x = np.arange(max(0, m - (n - r)), min(r, m) + 1)
        inverse, later = (float(s) for s in _sums(np.array(n0), np.array(m)))
        numerator = earlier + x / m * ((r0 + 1) * inverse + (x - 1) / max(m - 1, 1) * later)
        shown = r0 + x > 0
        chance = np.exp(_choose(r, x) + _choose(n - r, m - x) - _choose(n, m))
        result[query] = (chance[shown] * numerator[shown] / (r0 + x[shown])).sum()
    return result


_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])


def _choose(n: int, k: np.ndarray | int) -> np.ndarray:
    """Return the natural logarithm of the binomial coefficient n over k, 0 <= k <= n."""
    return math.lgamma(n + 1) - _log_gamma(np.add(k, 1)) - _log_gamma(np.subtract(n, k) + 1)
