"""Intervals and tests that respect units: images of one patient are no independent evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from medlike.errors import QueryError

RESAMPLES = 2_000
_EXACT_UNITS = 12


@dataclass(frozen=True)
class Interval:
    """Hold a mean with its bootstrap interval.

    Attributes:
        mean: Mean over the queries.
        low: Lower end of the interval.
        high: Upper end of the interval.
        units: How many independent units it rests on.
    """

    mean: float
    low: float
    high: float
    units: int


def bootstrap_interval(
    values: np.ndarray, units: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Return the mean over queries with a percentile bootstrap interval that draws whole units with replacement.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3; units are clusters.

    Args:
        values: float [N], NaN left out.
        units: int [N], patient or case of each value.
        level: Coverage of the interval, 0..1.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        The interval, NaN without any value. One unit has an interval without width: read `units`.

    Raises:
        QueryError: `values` and `units` differ in length.
    """
    sums, sizes = _by_unit(values, units)
    if not len(sums):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    means = (draws @ sums) / (draws @ sizes)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high), len(sums))


def paired_permutation(
    values: np.ndarray, baseline: np.ndarray, units: np.ndarray, resamples: int = 10_000, seed: int = 0
) -> float:
    """Return the two-sided p-value that two methods differ on the same queries; whole units swap sides together.

    All swaps are tried for at most 12 units, else `resamples` random ones with p = (1 + b) / (1 + n).

    Source: Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology, 2010.

    Args:
        values: float [N] of one method, NaN if a query counts for neither.
        baseline: float [N] of the other on the same queries.
        units: int [N], patient or case of each query.
        resamples: Number of random swaps.
        seed: Of the random swaps.

    Returns:
        The p-value in 0..1; NaN without any value.

    Raises:
        QueryError: The two methods were not measured on the same queries.
    """
    values, baseline = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if values.shape != baseline.shape:
        raise QueryError(f"{len(values)} values against {len(baseline)}: a paired test needs the same queries")
    if not np.array_equal(np.isnan(values), np.isnan(baseline)):
        raise QueryError("the two methods leave out different queries: a paired test needs the same ones")
    sums, _ = _by_unit(values - baseline, units)
    if not len(sums):
        return float("nan")
    seen = abs(sums.sum())
    slack = 1e-12 * max(1.0, np.abs(sums).sum())
    if len(sums) <= _EXACT_UNITS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= seen - slack).mean())
    rng = np.random.default_rng(seed)
    beaten = 0
    for start in range(0, resamples, 1000):
        signs = rng.integers(0, 2, (min(1000, resamples - start), len(sums))) * 2.0 - 1.0
        beaten += int((np.abs(signs @ sums) >= seen - slack).sum())
    return (1 + beaten) / (1 + resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down method, in the same order, at most 1. NaN stays NaN.

    Source: Holm, Scandinavian Journal of Statistics, 1979.

    Args:
        p_values: One p-value for each test of the family; NaN belongs to no family.
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(len(p), np.nan)
    real = np.flatnonzero(~np.isnan(p))
    order = real[np.argsort(p[real], kind="stable")]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(order) - rank) * float(p[index]))
        adjusted[index] = min(1.0, running)
    return adjusted.tolist()


def _by_unit(values: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each unit the sum of its values and their number; NaN left out."""
    values, units = np.asarray(values, np.float64), np.asarray(units)
    if values.shape != units.shape:
        raise QueryError(f"{len(values)} values but {len(units)} units: give each query its unit")
    keep = ~np.isnan(values)
    if not keep.any():
        return np.zeros(0), np.zeros(0)
    _, inverse = np.unique(units[keep], return_inverse=True)
    return np.bincount(inverse, weights=values[keep]), np.bincount(inverse).astype(np.float64)
