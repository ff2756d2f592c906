"""How well an outlier score separates in-distribution from OOD images, always on grey images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medlike.datasets import Dataset, open_sample
from medlike.evaluation.alarms import ALLOWED_ALARMS
from medlike.evaluation.parts import part_figures, parted
from medlike.metrics import aupr, auroc, bootstrap_interval, detection_at, false_alarms_at, roc_curve
from medlike.types import Json, JsonObject


def outlier_figures(
    data: Dataset, score: np.ndarray, p: np.ndarray | None, units: np.ndarray, threshold: float = ALLOWED_ALARMS
) -> JsonObject | None:
    """Return detection figures over query images of both kinds, or None where one kind is missing.

    Args:
        data: N images, OOD or not.
        score: float [N], higher is stranger.
        p: Conformal p-values [N]; None leaves out the figures of the rule.
        units: Patient or case of each image, int [N].
        threshold: p-value up to which the rule flags an image. False alarms have an interval by unit, also by modality
            and by source.
    """
    outside = np.array([s.is_ood for s in data], dtype=bool)
    if not outside.any() or outside.all():
        return None
    inside = ~outside
    known, strange = score[inside], score[outside]
    labels, sources, modalities = (data.column(name) for name in ("label", "source", "modality"))
    figures: JsonObject = {
        "inside": len(known),
        "outside": len(strange),
        "auroc": auroc(known, strange),
        "aupr": aupr(known, strange),
        "false_alarms_at_95_detection": false_alarms_at(known, strange),
        "detection_at_3_false_alarms": detection_at(known, strange, 0.03),
        "kinds": {
            str(kind): {
                "images": int((labels == kind).sum()),
                "auroc": auroc(known, score[labels == kind]),
                "detection_at_3_false_alarms": detection_at(known, score[labels == kind], 0.03),
            }
            for kind in np.unique(labels[outside])
        },
    }
    if p is not None:
        flagged = (p <= threshold).astype(np.float64)
        rate = bootstrap_interval(flagged[inside], units[inside])
        figures["rule"] = {
            "threshold": threshold,
            "detected": float(flagged[outside].mean()),
            "false_alarms": rate.mean,
            "false_alarms_interval": [rate.low, rate.high],
            "units": rate.units,
            **part_figures("false_alarms_by_modality", parted(modalities[inside], flagged[inside], units[inside])),
            **part_figures("false_alarms_by_source", parted(sources[inside], flagged[inside], units[inside])),
            **part_figures("detected_by_kind", parted(labels[outside], flagged[outside], units[outside])),
        }
    false, true, _ = roc_curve(known, strange)
    keep = np.unique(np.linspace(0, len(false) - 1, min(len(false), 200)).astype(int))
    figures["roc"] = {"false_alarms": false[keep].tolist(), "detected": true[keep].tolist()}
    low, high = np.quantile(score, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-6), 41)
    figures["histogram"] = {
        "edges": edges.tolist(),
        "inside": np.histogram(np.clip(known, low, high), edges)[0].tolist(),
        "outside": np.histogram(np.clip(strange, low, high), edges)[0].tolist(),
    }
    return figures


def flagged_too_often(rule: Mapping[str, Json]) -> list[str]:
    """Return the modalities and sources that are flagged more often than the rule allows, beyond their intervals.

    Args:
        rule: The entry `rule` of `outlier_figures`.

    Returns:
        One text each, the worst first.
    """
    texts = []
    for what in ("modality", "source"):
        key = f"false_alarms_by_{what}"
        for part, (low, high) in rule[f"{key}_interval"].items():
            if low is not None and low > rule["threshold"]:
                rate, images = rule[key][part], rule[f"{key}_queries"][part]
                texts.append((-rate, f"{what} {part} {rate:.0%} ({low:.0%} to {high:.0%} of {images} images)"))
    return [text for _, text in sorted(texts)]


def colour_spread(data: Dataset) -> np.ndarray:
    """Return the mean difference between the largest and smallest channel of each image as stored: float [N], 0..255.

    The floor that any detector on colour images has to be compared with: radiology is grey.
    """
    from medlike.imaging import render_colour

    spreads = []
    for sample in data:
        shown = render_colour(open_sample(sample))
        spreads.append(float(np.ptp(shown.astype(np.int16), axis=2).mean()) if shown.ndim == 3 else 0.0)
    return np.array(spreads)
