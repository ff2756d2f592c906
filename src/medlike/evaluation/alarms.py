"""Detect known failures of hash codes and outlier rules from their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medlike.metrics import RetrievalScores, recall_gain
from medlike.metrics.statistics import Interval

HIGH_PRECISION = 0.5
LEAST_GAIN = 0.05
GAIN_RADIUS = 4
LEAST_UNITS = 30
ALLOWED_ALARMS = 0.03


@dataclass(frozen=True)
class Alarm:
    """Describe a failure.

    Attributes:
        name: What it is called in reports.
        message: What was measured, the limit, and what to do about it.
    """

    name: str
    message: str


def over_centralisation(scores: RetrievalScores) -> Alarm | None:
    """Return an alarm if precision at radius 0 is high and hardly any recall gained up to radius 4: one code a class.

    There is none if radius 0 has next to no recall, such as the query's own copy alone: no code is shared then.
    """
    if scores.recall_within.shape[1] <= GAIN_RADIUS or not len(scores.recall_within):
        return None
    precision = float(np.nan_to_num(np.nanmean(scores.precision_within[:, 0])))
    gain = float(recall_gain(scores.recall_within)[GAIN_RADIUS])
    recall = float(np.nanmean(scores.recall_within[:, 0]))
    if precision < HIGH_PRECISION or recall < LEAST_GAIN or not gain < LEAST_GAIN:
        return None
    return Alarm(
        "over-centralisation",
        f"precision {precision:.2f} at radius 0 (recall {recall:.2f}), and only {100 * gain:.1f} points of "
        f"recall gained by radius {GAIN_RADIUS} (expected at least {100 * LEAST_GAIN:.0f}): images of a "
        "class share one code, so ranking inside a class is chance. Weaken the pull between unlike images "
        "of a class.",
    )


def constant_bits(codes: np.ndarray) -> Alarm | None:
    """Return an alarm if some bits of codes uint8 [N, bits / 8] hardly ever change and so carry nothing."""
    share = np.unpackbits(codes, axis=1).mean(axis=0)
    dead = int(((share < 0.01) | (share > 0.99)).sum())
    if not dead:
        return None
    return Alarm(
        "constant bits",
        f"{dead} of {len(share)} bits have the same value in 99 % of the images (limit 0): they cost memory "
        "and tell nothing. Add or strengthen the bit-balance term.",
    )


def few_units(units: int, queries: int) -> Alarm | None:
    """Return an alarm if there are so few patients that every figure is chance.

    Args:
        units: Patients or cases among the queries.
        queries: Their images.
    """
    if units >= LEAST_UNITS:
        return None
    return Alarm(
        "few queries",
        f"{queries} queries of {units} patients or cases (at least {LEAST_UNITS} say something): figures and intervals "
        "are rough, and other alarms cannot be trusted to sound. Give more images, or ask with all of them by "
        "--everything where no bundle was trained on them.",
    )


def false_alarms(rate: Interval, allowed: float = ALLOWED_ALARMS) -> Alarm | None:
    """Return an alarm if more in-distribution images are flagged than the rule allows, beyond what chance explains.

    Args:
        rate: Share of in-distribution images that are flagged, with its interval.
        allowed: Share that the rule allows, 0..1.
    """
    if not rate.low > allowed:
        return None
    return Alarm(
        "too many false outlier alarms",
        f"{rate.mean:.1%} of the in-distribution query images are flagged ({rate.low:.1%} to "
        f"{rate.high:.1%}, allowed {allowed:.0%}). Calibrate on the site's own images with "
        "`medlike calibrate`, and look at the suspect training images.",
    )


def false_alarms_of_parts(parts: Sequence[str], allowed: float = ALLOWED_ALARMS) -> Alarm | None:
    """Return an alarm if modalities or sources are flagged too often, even where the mean over all is not.

    Args:
        parts: One text for each of them, as `flagged_too_often` returns.
        allowed: Share that the rule allows, 0..1.
    """
    if not parts:
        return None
    return Alarm(
        "false outlier alarms of some kinds",
        f"Known images are flagged more often than {allowed:.0%}, beyond their interval: {'; '.join(parts)}. "
        "Their verdicts mean little; calibrate with `medlike calibrate` on images of these kinds.",
    )


def suspects(features: np.ndarray, labels: np.ndarray, units: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """Return how much the neighbours of each training image contradict its label: float [N], 0 = all agree, 1 = none.

    The nearest images of other units by cosine vote; mislabelled and poor images have values near 1. Labels with fewer
    images than neighbours are judged by as many as other units have. An image is 0 if no other unit has its label.

    Args:
        features: float [N, D].
        labels: Label of each image, [N].
        units: Patient or case of each image, int [N].
        neighbours: How many images vote.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    _, of_label = np.unique(labels, return_inverse=True)
    result = np.zeros(len(unit))
    for start in range(0, len(unit), 512):
        rows = slice(start, start + 512)
        own = units[rows, None] == units[None, :]
        alike = (of_label[rows, None] == of_label[None, :]) & ~own
        near = np.where(own, -np.inf, unit[rows] @ unit.T)
        best = np.argsort(-near, axis=1, kind="stable")[:, :neighbours]
        agree = np.take_along_axis(alike, best, axis=1).sum(axis=1)
        possible = np.minimum(neighbours, alike.sum(axis=1))
        result[rows] = np.where(possible > 0, 1 - agree / np.maximum(possible, 1), 0.0)
    return result
