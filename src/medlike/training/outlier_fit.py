"""Fitting what tells known images from outliers: the map to outlier features, the contrast, and its calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from medlike.errors import TrainingError
from medlike.inference.encoding import DEFAULT_THRESHOLD
from medlike.inference.outlier import CONTRAST, LARGEST, LEAST_UNITS, POOLED, RECONSTRUCTION, OutlierSettings
from medlike.metrics.outliers import auroc, detection_at
from medlike.models.outlier_map import OutlierMap
from medlike.models.pooling import depth_statistics
from medlike.training.rotation import balanced_weights, principal_directions
from medlike.types import F32, F64, I64, Array, JsonObject, Mask

POOLED_OUTPUTS, FEATURE_OUTPUTS = 256, 64
# How far the directions are evened out, 0 not at all, 1 fully.
WHITENING = 0.5
# Ridge of the discriminant, in variances of the standardised features.
RIDGE = 1.0


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


def fit_contrast(
    features: F32,
    columns: int,
    origins: Sequence[str],
    units: I64,
    modality: Sequence[str | None],
    outliers: F32,
    kinds: Sequence[str],
    random: np.random.Generator,
    threshold: float = DEFAULT_THRESHOLD,
    lone: Mapping[str, Mask] = MappingProxyType({}),
) -> tuple[dict[str, Array], JsonObject]:
    """Fit an outlier part whose calibration is made of whole sources, left out in turn.

    The score is linear in the first `columns` features, which training never touched: the ridge discriminant between
    known images and outliers. Each calibration score comes from a fit without its origin, so that a threshold of 0.03
    promises 3 % false alarms on images of hospitals that the bundle does not hold. In the fit every origin weighs
    alike, and so does every kind of outlier. In the calibration an origin weighs as the root of its images of a
    modality: a few odd images must not set the threshold alone. The largest p-value over the modalities counts, so that
    none has more false alarms than the threshold allows.

    Args:
        features: float32 [N, F], in-distribution images.
        columns: How many of the leading features count.
        origins: Origin of each image; sources that share one are left out together.
        units: Patient or case of each image, int64 [N]; one image of each calibrates.
        modality: Predicted modality of each image.
        outliers: float32 [M, F], pictures that are no medical images.
        kinds: Kind of each of them.
        random: Draws the image of each unit.
        threshold: Largest p-value of an outlier.
        lone: Origins that cannot be left out, since no other origin has images like theirs. Of each, only these images
            are left out and calibrate, bool [N].

    Returns:
        The arrays and the "outlier" part of the bundle's specification.

    Raises:
        TrainingError: There are fewer than two origins and none in `lone`, or no outliers.
    """
    owners = np.asarray(origins, dtype=np.str_)
    names = np.unique(owners)
    if len(names) + len(lone) < 2 or not len(outliers):
        raise TrainingError(
            f"{len(names)} origins and {len(outliers)} outliers; verdicts calibrated over sources left out need at "
            "least 2 origins and some outliers"
        )
    inside = features[:, :columns]
    known = _moments(inside, owners)
    strange = _moments(outliers[:, :columns], np.asarray(kinds, dtype=np.str_))
    solved = _discriminant(known, strange)
    direction = np.zeros(features.shape[1])
    direction[:columns] = solved[:-1]
    scores, judged = _left_out_scores(inside, owners, known, strange, lone)
    places = np.flatnonzero(judged)
    rows = places[one_of_each(units[places], random)]
    groups = [modality[row] or "" for row in rows.tolist()]
    modalities = sorted({group for group in groups if group})
    numbers = [modalities.index(group) if group else -1 for group in groups]
    cells = [f"{owner}/{group}" for owner, group in zip(owners[rows].tolist(), groups, strict=True)]
    sizes = Counter(cells)
    arrays: dict[str, Array] = {
        "outlier.direction": direction.astype(np.float32),
        "outlier.offset": solved[-1:].astype(np.float32),
        "outlier.location": np.zeros(1, np.float32),
        "outlier.scale": np.ones(1, np.float32),
        "outlier.weights": np.ones(1, np.float32),
        "outlier.calibration": scores[rows],
        "outlier.calibration_modality": np.asarray(numbers, np.int32),
        "outlier.calibration_weight": np.asarray([sizes[cell] ** -0.5 for cell in cells], np.float32),
    }
    usual = OutlierSettings()
    facts: JsonObject = {
        # Every outlier part states both, and no neighbour counts here.
        "k": usual.k,
        "normalise": usual.normalise,
        "components": [CONTRAST],
        "judged_by": LARGEST,
        "threshold": threshold,
        "least_units": LEAST_UNITS,
        "modalities": modalities,
        "calibration_units": {POOLED: len(rows), **{name: groups.count(name) for name in modalities}},
        "calibration_origins": len(names),
        "reference_images": len(features),
        "outlier_images": len(outliers),
        "outlier_kinds": sorted(set(kinds)),
    }
    if lone:
        facts["calibrated_on_units"] = sorted(lone)
    return arrays, facts


def fit_without_kinds(
    features: F32,
    origins: Sequence[str],
    outliers: F32,
    kinds: Sequence[str],
    lone: Mapping[str, Mask] = MappingProxyType({}),
) -> dict[str, dict[str, float]]:
    """Return how well each kind of outlier is told from known images by a discriminant that never saw the kind.

    Args:
        features: float32 [N, F], in-distribution images; each is scored as in the calibration of fit_contrast.
        origins: Origin of each image.
        outliers: float32 [M, F], pictures that are no medical images.
        kinds: Kind of each of them, two or more.
        lone: As in fit_contrast.

    Returns:
        By kind, "auroc" and "detected_at_3_percent".
    """
    owners, names = np.asarray(origins, dtype=np.str_), np.asarray(kinds, dtype=np.str_)
    known, strange = _moments(features, owners), _moments(outliers, names)
    table = {}
    for place, kind in enumerate(np.unique(names).tolist()):
        others = np.delete(strange, place, axis=0)
        scores, judged = _left_out_scores(features, owners, known, others, lone)
        solved = _discriminant(known, others)
        outside = outliers[names == kind] @ solved[:-1] + solved[-1]
        detected = detection_at(scores[judged], outside)
        table[kind] = {"auroc": float(auroc(scores[judged], outside)), "detected_at_3_percent": float(detected)}
    return table


def add_reconstruction(
    arrays: Mapping[str, Array], facts: JsonObject, errors: F32
) -> tuple[dict[str, Array], JsonObject]:
    """Return an outlier part with the decoder's error as a second component, which explains but does not judge.

    Args:
        arrays: As fit_contrast returns them.
        facts: As fit_contrast returns them.
        errors: Reconstruction errors of known images, float32 [N], which standardise the component.
    """
    low, middle, high = np.percentile(errors, [25, 50, 75])
    changed = {
        "outlier.location": np.asarray([0, middle], np.float32),
        "outlier.scale": np.asarray([1, max((high - low) / 1.349, 1e-6)], np.float32),
        "outlier.weights": np.asarray([1, 0], np.float32),
    }
    return {**arrays, **changed}, facts | {"components": [CONTRAST, RECONSTRUCTION]}


def _left_out_scores(
    features: F32, owners: NDArray[np.str_], known: F64, outliers: F64, lone: Mapping[str, Mask]
) -> tuple[F32, Mask]:
    """Return the score of each image by a discriminant without its origin, float32 [N], and which images have one.

    Args:
        features: float32 [N, F].
        owners: Origin of each image.
        known: Moments of each origin.
        outliers: Moments of each kind of outliers.
        lone: As in fit_contrast.
    """
    scores, judged = np.zeros(len(features), np.float32), np.ones(len(features), bool)
    for place, name in enumerate(np.unique(owners).tolist()):
        away = owners == name
        rest = np.delete(known, place, axis=0)
        if name in lone:
            stays = away & ~lone[name]
            judged[stays] = False
            away = away & lone[name]
            rest = np.concatenate([rest, _moments(features[stays], owners[stays])])
        solved = _discriminant(rest, outliers)
        scores[away] = features[away] @ solved[:-1] + solved[-1]
    return scores, judged


def _moments(rows: F32, names: NDArray[np.str_]) -> F64:
    """Return the mean outer product of (row, 1) for every name, float64 [names, F + 1, F + 1]."""
    extended = np.column_stack([rows.astype(np.float64), np.ones(len(rows))])
    groups = (extended[names == name] for name in np.unique(names))
    return np.stack([group.T @ group / len(group) for group in groups])


def _discriminant(known: F64, outliers: F64) -> F64:
    """Return weights and offset, float64 [F + 1], of the ridge regression on -1 for known images and 1 for outliers.

    Both sides weigh alike, and within a side every group. A weight is penalised in deviations of the known images.

    Args:
        known: Moments of each group of known images.
        outliers: Moments of each kind of outliers.
    """
    inside, outside = known.mean(axis=0), outliers.mean(axis=0)
    variance = np.diag(inside) - inside[-1] ** 2  # the last is that of the constant: 0
    penalty = RIDGE * np.maximum(variance, 1e-12 * max(float(variance.max()), 1e-12))
    penalty[-1] = 0.0
    solved: F64 = np.linalg.solve((inside + outside) / 2 + np.diag(penalty), (outside[-1] - inside[-1]) / 2)
    return solved
