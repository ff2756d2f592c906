"""Metrics of outlier detection. A higher score means less alike; the positive class is out-of-distribution (OOD)."""

from __future__ import annotations

import numpy as np

from medlike.errors import QueryError


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the chance that an OOD image scores above an in-distribution one, 0..1; ties count half.

    Args:
        inside: Scores of in-distribution images, float [N].
        outside: Scores of OOD images, float [M].

    Raises:
        QueryError: One of them is empty or holds NaN.
    """
    inside, outside = _scores(inside, outside)
    order = np.sort(inside)
    below = np.searchsorted(order, outside, side="left")
    equal = np.searchsorted(order, outside, side="right") - below
    return float((below + equal / 2).sum() / (len(inside) * len(outside)))


def aupr(inside: np.ndarray, outside: np.ndarray) -> float:
    """Return the area under precision-recall, 0..1, as average precision over thresholds.

    Source: `sklearn.metrics.average_precision_score`. Chance is M / (N + M), not 1/2.

    Args:
        inside: Scores of in-distribution images, float [N].
        outside: Scores of OOD images, float [M].

    Raises:
        QueryError: One of them is empty or holds NaN.
    """
    inside, outside = _scores(inside, outside)
    _, found, hits = _thresholds(inside, outside)
    precision = hits / found
    return float((np.diff(np.concatenate([[0], hits])) / len(outside) * precision).sum())


def roc_curve(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false-alarm rate, detection rate and threshold (flag at or above), from strictest to loosest.

    Args:
        inside: Scores of in-distribution images, float [N].
        outside: Scores of OOD images, float [M].

    Returns:
        Three arrays float64 [T + 1], T distinct scores; both rates rise from 0 to 1, thresholds fall from infinity.

    Raises:
        QueryError: One of them is empty or holds NaN.
    """
    inside, outside = _scores(inside, outside)
    thresholds, found, hits = _thresholds(inside, outside)
    false = np.concatenate([[0], found - hits]) / len(inside)
    true = np.concatenate([[0], hits]) / len(outside)
    return false, true, np.concatenate([[np.inf], thresholds])


def false_alarms_at(inside: np.ndarray, outside: np.ndarray, detection: float = 0.95) -> float:
    """Return the smallest false-alarm rate that flags at least `detection` of the OOD images (FPR at 95 % TPR).

    Args:
        inside: Scores of in-distribution images, float [N].
        outside: Scores of OOD images, float [M].
        detection: Least detection rate, 0..1.

    Returns:
        The rate, 0..1, lower is better.

    Raises:
        QueryError: One of them is empty or holds NaN.
    """
    false, true, _ = roc_curve(inside, outside)
    return float(false[np.flatnonzero(true >= detection - 1e-12)[0]])


def detection_at(inside: np.ndarray, outside: np.ndarray, alarms: float = 0.03) -> float:
    """Return the largest detection rate at which at most `alarms` of the in-distribution images are flagged.

    Args:
        inside: Scores of in-distribution images, float [N].
        outside: Scores of OOD images, float [M].
        alarms: Largest false-alarm rate, 0..1.

    Returns:
        The rate, 0..1, higher is better.

    Raises:
        QueryError: One of them is empty or holds NaN.
    """
    false, true, _ = roc_curve(inside, outside)
    return float(true[false <= alarms + 1e-12].max())


def _scores(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    checked = []
    for name, values in (("in-distribution", inside), ("OOD", outside)):
        values = np.asarray(values, np.float64).ravel()
        if not len(values):
            raise QueryError(f"there are no {name} scores: both kinds are needed")
        if np.isnan(values).any():
            raise QueryError(f"{np.isnan(values).sum()} of the {name} scores are NaN")
        checked.append(values)
    return checked[0], checked[1]


def _thresholds(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores, falling; how many images are at or above each; how many of those are OOD."""
    values = np.unique(np.concatenate([inside, outside]))[::-1]
    hits = len(outside) - np.searchsorted(np.sort(outside), values, side="left")
    false = len(inside) - np.searchsorted(np.sort(inside), values, side="left")
    return values, hits + false, hits
