"""Failure signatures: what goes wrong with hash codes and can be seen in the figures."""

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
    """name: what it is called in reports; message: what was seen, the limit, and what to do about it."""

    name: str
    message: str


def over_centralisation(scores: RetrievalScores) -> Alarm | None:
    """High precision at radius 0 and hardly any recall gained up to radius 4: one code a class.

    Not where radius 0 finds next to nothing, such as the query's own copy in the gallery: nothing is shared then.
    """
    if scores.recall_within.shape[1] <= GAIN_RADIUS or not len(scores.recall_within):
        return None
    precision = float(np.nan_to_num(np.nanmean(scores.precision_within[:, 0]) if scores.queries else np.nan))
    gain = float(recall_gain(scores.recall_within)[GAIN_RADIUS])
    found = float(np.nanmean(scores.recall_within[:, 0]))
    if precision < HIGH_PRECISION or found < LEAST_GAIN or not gain < LEAST_GAIN:
        return None
    return Alarm(
        "over-centralisation",
        f"precision {precision:.2f} at radius 0 (recall {found:.2f}), and only {100 * gain:.1f} points of "
        f"recall gained by radius {GAIN_RADIUS} (expected at least {100 * LEAST_GAIN:.0f}): images of a "
        "class share one code, so ranking inside a class is chance. Weaken the pull between unlike images "
        "of a class.",
    )


def constant_bits(codes: np.ndarray) -> Alarm | None:
    """Bits that hardly ever change carry nothing. codes: uint8 [N, bits / 8]."""
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
    """So few patients that every figure is chance. units: patients or cases that ask; queries: their images."""
    if units >= LEAST_UNITS:
        return None
    return Alarm(
        "few queries",
        f"{queries} queries of {units} patients or cases (at least {LEAST_UNITS} say something): figures and intervals "
        "are rough, and other alarms cannot be trusted to sound. Give more images, or ask with all of them by "
        "--everything where no bundle was trained on them.",
    )


def false_alarms(rate: Interval, allowed: float = ALLOWED_ALARMS) -> Alarm | None:
    """More in-distribution images flagged than the rule allows, beyond what chance explains."""
    if not rate.low > allowed:
        return None
    return Alarm(
        "too many false outlier alarms",
        f"{rate.mean:.1%} of the in-distribution query images are flagged ({rate.low:.1%} to "
        f"{rate.high:.1%}, allowed {allowed:.0%}). Calibrate on the site's own images with "
        "`medlike calibrate`, and look at the suspect training images.",
    )


def false_alarms_of_parts(parts: Sequence[str], allowed: float = ALLOWED_ALARMS) -> Alarm | None:
    """Modalities or sources that are flagged too often, even where the mean over all is not. parts: one text each."""
    if not parts:
        return None
    return Alarm(
        "false outlier alarms of some kinds",
        f"Known images are flagged more often than {allowed:.0%}, beyond their interval: {'; '.join(parts)}. "
        "Their verdicts mean little; calibrate with `medlike calibrate` on images of these kinds.",
    )


def suspects(features: np.ndarray, labels: np.ndarray, units: np.ndarray, neighbours: int = 10) -> np.ndarray:
    """How much the neighbours of each training image contradict its label: float [N], 0 = all agree.

    features: float [N, D]; units: [N], patient or case of each. The nearest images of other units by cosine vote.
    Mislabelled and poor images come out at 1. Labels with fewer images than neighbours are judged by as many as
    other units have; where no other unit has the label, nobody can vouch for it and the image is not judged: 0.
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
