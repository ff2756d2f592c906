"""Fitting what tells known images from outliers: the map to outlier features, reference, calibration.

Three parts of the data, apart from each other: the reference (training pictures, spread over sources and
labels), the calibration part (one picture a unit), and, where there are any, outlier pictures of the
calibration half, by which the components' weights are chosen, one kind left out at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medlike.errors import TrainingError
from medlike.inference.outlier import OutlierScorer, OutlierSettings
from medlike.metrics.outliers import auroc, detection_at
from medlike.models.outlier_map import OutlierMap
from medlike.models.pooling import depth_statistics
from medlike.training.rotation import balanced_weights, principal_directions
from medlike.types import F32, F64, I64

POOLED_OUTPUTS, FEATURE_OUTPUTS = 256, 64
# How far the directions are evened out, 0 not at all, 1 fully.
WHITENING = 0.5
# Weights tried for each component; the first is never left out.
WEIGHTS = (0.0, 0.5, 1.0, 2.0)


def fit_outlier_map(
    pooled: F32, feature: F32, channels: Sequence[int], sources: list[str], feature_outputs: int = FEATURE_OUTPUTS
) -> OutlierMap:
    """Fit the leading principal directions, half evened out, of pooled depths [N,P] and blended feature [N,D].

    Fitted without labels on training pictures; sources are weighted so that none outweighs the others. Asks
    for fewer directions where there are fewer pictures.
    """
    mean, std = depth_statistics(torch.from_numpy(pooled), channels)
    weights = balanced_weights(sources)
    standard = ((pooled - mean.numpy()) / std.numpy()).astype(np.float64)
    limit = max(2, len(pooled) // 3)
    known = _evened(standard - np.average(standard, axis=0, weights=weights), weights, min(POOLED_OUTPUTS, limit))
    centre = np.average(feature, axis=0, weights=weights)
    count = min(feature_outputs, limit)
    learned = _evened((feature - centre).astype(np.float64), weights, count) if count else np.zeros((0, 0))
    made = OutlierMap(pooled.shape[1], known.shape[1], feature.shape[1], learned.shape[1])
    with torch.no_grad():
        made.mean.copy_(mean)
        made.std.copy_(std)
        made.from_pooled.weight.copy_(torch.from_numpy(known.T))
        if isinstance(made.from_feature, torch.nn.Linear):
            made.centre.copy_(torch.from_numpy(centre))
            made.from_feature.weight.copy_(torch.from_numpy(learned.T))
    return made


def map_settings(made: OutlierMap) -> dict[str, int]:
    """Return the arguments that build an OutlierMap of the same shape."""
    feature = made.from_feature
    return {
        "pooled": made.from_pooled.in_features,
        "pooled_outputs": made.from_pooled.out_features,
        "feature": feature.in_features if isinstance(feature, torch.nn.Linear) else 0,
        "feature_outputs": feature.out_features if isinstance(feature, torch.nn.Linear) else 0,
    }


def _evened(rows: F64, weights: F64, count: int) -> F64:
    """Return directions [D, count] evened out, scaled so that projected rows have a mean squared norm of 1."""
    tried = min(count, rows.shape[1])
    while True:
        try:
            directions, variances = principal_directions(rows, weights, tried)
            break
        except TrainingError:
            # Fewer directions carry variance: a small set, or features that depend on each other.
            if tried == 1:
                raise
            tried = (tried + 1) // 2
    projection = directions * np.maximum(variances, 1e-12) ** (-WHITENING / 2)
    return projection / np.sqrt(np.average(((rows @ projection) ** 2).sum(axis=1), weights=weights))


def spread_rows(rows: I64, keys: Sequence[str], count: int, random: np.random.Generator) -> I64:
    """Return at most `count` of the rows, spread evenly over the keys; `keys` has one for each row."""
    order = random.permutation(len(rows))
    seen: dict[str, int] = {}
    rank = np.zeros(len(rows), np.int64)
    for place in order:
        rank[place] = seen[keys[place]] = seen.get(keys[place], -1) + 1
    return np.sort(rows[np.lexsort((order.argsort(), rank))[:count]])


def one_of_each(units: I64, random: np.random.Generator) -> I64:
    """Draw a row of every unit, in order: int64 [number of units]."""
    order = random.permutation(len(units))
    return np.sort(order[np.unique(units[order], return_index=True)[1]])


def component_table(scorer: OutlierScorer, features: F32, errors: F32 | None = None) -> F32:
    """Return the standardised components of each row, float32 [N, C], higher is less typical."""
    rows = [
        scorer.score(scorer.parts(row, None if errors is None else float(errors[i])))[1]
        for i, row in enumerate(features)
    ]
    return np.asarray(rows, np.float32).reshape(len(features), -1)


def choose_weights(
    usual: F32, outliers: F32, kinds: Sequence[str]
) -> tuple[tuple[float, ...], dict[str, dict[str, float]]]:
    """Return weights of the components and, for each kind, what weights chosen without it reach on it.

    usual: [n, C] standardised components of known pictures that took no part in the fit; outliers: [m, C], with
    the kind of each. Best: mean over kinds of detection at 3 % false alarms, then of AUROC. With fewer than
    two kinds nothing can be left out: equal weights.
    """
    count = usual.shape[1]
    equal = (1.0,) * count
    names = np.asarray(kinds, dtype=np.str_)
    kind_names = sorted(set(kinds))
    if len(kind_names) < 2 or not len(usual):
        return equal, {}
    grid = [equal, *(tuple(w) for w in np.stack(np.meshgrid(*[WEIGHTS] * count), -1).reshape(-1, count).tolist())]
    grid = [w for w in dict.fromkeys(grid) if sum(w) > 0]
    table: dict[tuple[float, ...], list[tuple[float, float]]] = {}
    for w in grid:
        inside = usual @ np.asarray(w, np.float32) / sum(w)
        table[w] = []
        for kind in kind_names:
            outside = outliers[names == kind] @ np.asarray(w, np.float32) / sum(w)
            table[w].append((float(detection_at(inside, outside)), float(auroc(inside, outside))))

    def best(left_out: int | None) -> tuple[float, ...]:
        def worth(w: tuple[float, ...]) -> tuple[float, float]:
            rest = [pair for i, pair in enumerate(table[w]) if i != left_out]
            return (round(sum(p[0] for p in rest) / len(rest), 4), round(sum(p[1] for p in rest) / len(rest), 5))

        # Of equals the first, which has equal weights.
        return max(grid, key=worth)

    left_out = {
        kind: dict(zip(("detected_at_3_percent", "auroc"), table[best(i)][i], strict=True))
        for i, kind in enumerate(kind_names)
    }
    return best(None), left_out


def settings_with(weights: Sequence[float]) -> OutlierSettings:
    """Return the default settings with these weights."""
    padded = (*weights, 1.0, 1.0, 1.0)[:3]
    return OutlierSettings(weights=(float(padded[0]), float(padded[1]), float(padded[2])))
