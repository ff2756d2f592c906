"""Is this image anything the bundle knows? One score, one conformal p-value, components as explanation.

Score: the mean of two or three standardised components, higher is less typical:

    neighbours       distance to the k-th nearest vector of a reference set frozen in the bundle
    mahalanobis      distance to the nearest cluster of it, under the pooled within-cluster covariance
    reconstruction   error of the decoder, where the bundle has one
    contrast         linear discriminant from other pictures (training.outlier_fit.fit_contrast); it judges alone, and
                     the error of a decoder may stand beside it

p = (1 + number of calibration scores >= score) / (n + 1). Calibration units took no part in fitting the
components, so a threshold of 0.03 promises at most 3 % false alarms on units exchangeable with them (Vovk et
al. 2005; k-NN: Sun et al. 2022, arXiv 2204.06507; Mahalanobis: Lee et al. 2018, arXiv 1807.03888). Calibration
scores of sources left out in turn carry weights, by which each counts instead of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlike.bundle import Bundle
from medlike.errors import BundleError, InputError
from medlike.inference.encoding import DEFAULT_THRESHOLD, Outliers
from medlike.types import F32, F64, I32, Array, Json, JsonObject

POOLED = "pooled"
LEAST_UNITS = 200
PREFIX = "outlier."
LARGEST = "largest"


@dataclass(frozen=True)
class OutlierSettings:
    """Settings of the outlier score.

    Attributes:
        k: Which neighbour's distance counts.
        normalise: If true, compare directions, not lengths, in the neighbour distance.
        shrinkage: Share of the mean variance put into the covariance.
        threshold: Largest p-value of an outlier.
        least_units: Calibration units that a modality needs for a p-value of its own.
    """

    k: int = 5
    normalise: bool = True
    shrinkage: float = 0.05
    threshold: float = DEFAULT_THRESHOLD
    least_units: int = LEAST_UNITS
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)


CONTRAST, RECONSTRUCTION = "contrast", "reconstruction"
COMPONENTS = ("neighbours", "mahalanobis", RECONSTRUCTION)


class OutlierScorer:
    """Score one image at a time, so that no answer depends on what else is in a batch."""

    def __init__(self, arrays: Mapping[str, Array], facts: Mapping[str, Json]) -> None:
        """Make a scorer.

        Args:
            arrays: As fit_outlier returns them.
            facts: The "outlier" part of a bundle's specification.
        """
        self.threshold = float(facts["threshold"])
        self.least_units = int(facts["least_units"])
        self.components = tuple(facts["components"])
        self.groups: list[str] = list(facts["modalities"])
        # A prediction says little of a source that the network never saw: the largest p-value counts.
        self.largest = facts.get("judged_by") == LARGEST
        if CONTRAST in self.components:
            self.direction = arrays["outlier.direction"].astype(np.float64)
            self.offset = float(arrays["outlier.offset"][0])
        else:
            self.k = int(facts["k"])
            self.normalise = bool(facts["normalise"])
            self.reference = arrays["outlier.reference"].astype(np.float32)
            self.squares = np.einsum("rf,rf->r", self.reference, self.reference)
            self.whitening = arrays["outlier.whitening"].astype(np.float32)
            self.centres = arrays["outlier.centres"].astype(np.float32)
        self.location = arrays["outlier.location"].astype(np.float32)
        self.scale = arrays["outlier.scale"].astype(np.float32)
        self.weights = arrays["outlier.weights"].astype(np.float32)
        scores = arrays["outlier.calibration"].astype(np.float32)
        owners = arrays["outlier.calibration_modality"]
        weights = arrays.get("outlier.calibration_weight", np.ones(len(scores)))
        self.calibration: dict[str, F32] = {}
        # For each calibration the weight of the scores from each place on, in units: the last is 0.
        self._tails: dict[str, F64] = {}
        rest = np.ones(len(scores), dtype=bool)
        for index, name in enumerate(self.groups):
            mask = owners == index
            if mask.sum() >= self.least_units:
                self._calibrate(name, scores[mask], weights[mask])
                rest &= ~mask
        # The pool must be like the images that it judges: modalities with a calibration of their own are left out,
        # unless then too few units remain for the threshold to be reached at all.
        mask = rest if rest.sum() >= round(1 / self.threshold) else np.ones(len(scores), dtype=bool)
        if not (self.largest and self.calibration):
            self._calibrate(POOLED, scores[mask], weights[mask])

    def _calibrate(self, name: str, scores: F32, weights: Array) -> None:
        order = np.argsort(scores, kind="stable")
        shares = weights[order].astype(np.float64)
        units = shares * (len(shares) / max(float(shares.sum()), 1e-12))
        self.calibration[name] = scores[order]
        self._tails[name] = np.append(np.cumsum(units[::-1])[::-1], 0.0)

    @staticmethod
    def of(bundle: Bundle) -> OutlierScorer | None:
        """Return the scorer of a bundle, or None if the bundle has none."""
        facts = bundle.spec.get("outlier")
        if not facts:
            return None
        if "outlier_features" not in bundle.outputs:
            raise BundleError(f"bundle {bundle.name} lacks output outlier_features; export it again")
        names = [name for name in bundle.array_names() if name.startswith(PREFIX)]
        return OutlierScorer({name: bundle.array(name) for name in names}, facts)

    def parts(self, features: F32, reconstruction: float | None = None) -> F32:
        """Return the components of one image, float32 [C], not standardised. features: float32 [F]."""
        if CONTRAST in self.components:
            values = [float(features @ self.direction + self.offset)]
        else:
            nearest = _neighbour_distance(features, self.reference, self.squares, self.k, self.normalise)
            away = self.centres - self.whitening @ features
            values = [nearest, float(np.sqrt(np.einsum("cf,cf->c", away, away).min()))]
        if RECONSTRUCTION in self.components:
            if reconstruction is None:
                raise BundleError("the outlier score wants a reconstruction error the graph does not give")
            values.append(float(reconstruction))
        return np.asarray(values, dtype=np.float32)

    def score(self, parts: F32) -> tuple[float, F32]:
        """Return the fused score of one image and its standardised components, from its `parts`."""
        standard = (parts - self.location) / self.scale
        return float(np.float32(standard @ self.weights / self.weights.sum())), standard

    def p_value(self, score: float, modality: str | None) -> tuple[float, str]:
        """Return the p-value of a score, and the name of the calibration that gave it.

        A modality with enough units has its own calibration, one with too few uses the pool of such modalities.
        If none is predicted, the largest p-value over all of these counts: what is usual anywhere is no outlier. So it
        is for every image if the calibration is made of sources left out in turn.
        """
        if self.largest or modality is None:
            return max((self._conformal(score, name), name) for name in self.calibration)
        group = modality if modality in self.calibration else POOLED
        return self._conformal(score, group), group

    def _conformal(self, score: float, name: str) -> float:
        """Return (1 + weight of calibration scores >= score) / (n + 1); the weights of n scores sum to n."""
        scores = self.calibration[name]
        at_least = self._tails[name][np.searchsorted(scores, np.float32(score), side="left")]
        return (1 + float(at_least)) / (len(scores) + 1)

    def verdicts(
        self, features: F32, modality: Sequence[str | None] | None = None, reconstruction: F32 | None = None
    ) -> Outliers:
        """Return the verdicts on N images.

        Args:
            features: float32 [N, F].
            modality: Predicted modality of each image.
            reconstruction: Errors of the decoder, float32 [N].
        """
        scores, ps, groups, components = [], [], [], []
        for i, row in enumerate(features):
            parts = self.parts(row, None if reconstruction is None else float(reconstruction[i]))
            score, standard = self.score(parts)
            p, group = self.p_value(score, None if modality is None else modality[i])
            scores.append(score)
            ps.append(p)
            groups.append(group)
            components.append(standard)
        table = np.asarray(components, dtype=np.float32).reshape(len(scores), len(self.components))
        return Outliers(
            score=np.asarray(scores, dtype=np.float32),
            p=np.asarray(ps, dtype=np.float32),
            components={name: table[:, j].copy() for j, name in enumerate(self.components)},
            threshold=self.threshold,
            modality=groups,
        )


def fit_outlier(
    reference: F32,
    calibration: F32,
    calibration_modality: Sequence[str | None],
    *,
    reference_unit: Sequence[object] | None = None,
    reference_cluster: Sequence[object] | None = None,
    reference_error: F32 | None = None,
    calibration_error: F32 | None = None,
    settings: OutlierSettings = OutlierSettings(),
) -> tuple[dict[str, Array], JsonObject]:
    """Fit the outlier part of a bundle.

    Args:
        reference: float32 [R, F], in-domain images.
        calibration: float32 [n, F], in-domain images of units that are not in the reference, one a unit.
        calibration_modality: Modality of each calibration image.
        reference_unit: Patient or case of each reference row; distances of the reference to itself, by which
            components are standardised, ignore rows of the same unit.
        reference_cluster: Label of each reference row; one cluster without.
        reference_error: Reconstruction errors of the reference, float32 [R]; both errors or neither.
        calibration_error: Reconstruction errors of the calibration, float32 [n].
        settings: Settings of the score.

    Returns:
        The arrays and the "outlier" part of the bundle's specification.

    Raises:
        InputError: There is too little to fit.
    """
    if len(reference) <= settings.k + 1:
        raise InputError(f"{len(reference)} reference images; neighbour {settings.k} needs {settings.k + 2}")
    _require_calibration(len(calibration), settings.threshold)
    if (reference_error is None) != (calibration_error is None):
        raise InputError("give the reconstruction errors of reference and calibration, or of neither")
    # As the bundle will store it, so that fitting and scoring see the same numbers.
    stored = _stored(reference, settings.normalise)
    clusters = np.asarray([str(label) for label in reference_cluster or [""] * len(reference)])
    whitening, centres = _clusters(reference.astype(np.float64), clusters, settings.shrinkage)
    count = 2 if reference_error is None else 3
    arrays: dict[str, Array] = {
        "outlier.reference": stored,
        "outlier.whitening": whitening.astype(np.float32),
        "outlier.centres": centres.astype(np.float32),
        "outlier.location": np.zeros(count, np.float32),
        "outlier.scale": np.ones(count, np.float32),
        "outlier.weights": np.asarray(settings.weights[:count], np.float32),
        "outlier.calibration": np.zeros(0, np.float32),
        "outlier.calibration_modality": np.zeros(0, np.int32),
    }
    names = sorted({name for name in calibration_modality if name is not None})
    facts = {
        "k": settings.k,
        "normalise": settings.normalise,
        "threshold": settings.threshold,
        "least_units": settings.least_units,
        "components": list(COMPONENTS[:count]),
        "modalities": names,
    }
    bare = OutlierScorer(arrays, facts)
    parts = _reference_parts(bare, reference, reference_unit, reference_error)
    # Median and interquartile range: a few odd reference images must not set the scale.
    low, middle, high = np.percentile(parts, [25, 50, 75], axis=0)
    arrays["outlier.location"] = middle.astype(np.float32)
    arrays["outlier.scale"] = np.maximum((high - low) / 1.349, 1e-6).astype(np.float32)
    scorer = OutlierScorer(arrays, facts)
    arrays.update(_calibrated(scorer, calibration, calibration_modality, calibration_error))
    facts["calibration_units"] = _count_units(names, arrays["outlier.calibration_modality"])
    facts["reference_images"] = len(reference)
    return arrays, facts


def extend_outlier(
    arrays: Mapping[str, Array],
    facts: Mapping[str, Json],
    reference: F32,
    reference_modality: Sequence[str | None],
    calibration: F32,
    calibration_modality: Sequence[str | None],
    calibration_error: F32 | None = None,
) -> tuple[dict[str, Array], JsonObject]:
    """Fit an outlier part to a site: its images join the reference, its other patients calibrate.

    Covariance and scales stay those of the bundle; each modality of the site adds a cluster. The former calibration is
    dropped: p-values are the site's. A bundle that judges by the contrast holds no reference: it is only calibrated.

    Args:
        arrays: As fit_outlier returns them.
        facts: As fit_outlier returns them.
        reference: float32 [R, F], images of the site.
        reference_modality: Modality of each of them.
        calibration: float32 [n, F], images of other patients of the site, one a patient.
        calibration_modality: Modality of each of them.
        calibration_error: Their reconstruction errors, float32 [n].

    Returns:
        Arrays and facts of the site.

    Raises:
        InputError: There are too few calibration units for the threshold.
    """
    scorer = OutlierScorer(arrays, facts)
    _require_calibration(len(calibration), scorer.threshold)
    extended = dict(arrays)
    if CONTRAST not in scorer.components:
        rows = reference.astype(np.float32)
        owners = np.asarray([name or "" for name in reference_modality])
        added = [rows[owners == name].mean(axis=0) @ scorer.whitening for name in np.unique(owners)]
        extended["outlier.reference"] = np.concatenate([arrays["outlier.reference"], _stored(rows, scorer.normalise)])
        extended["outlier.centres"] = np.concatenate([scorer.centres, *(row[None] for row in added)])
    names = sorted({name for name in calibration_modality if name is not None})
    changed = {**facts, "modalities": names}
    # The site's own images are all of one source: a modality's p-value is that of the modality again.
    changed.pop("judged_by", None)
    weighted = extended.pop("outlier.calibration_weight", None) is not None
    extended["outlier.calibration"] = np.zeros(0, np.float32)
    extended["outlier.calibration_modality"] = np.zeros(0, np.int32)
    scorer = OutlierScorer(extended, changed)
    extended.update(_calibrated(scorer, calibration, calibration_modality, calibration_error))
    if weighted:
        extended["outlier.calibration_weight"] = np.ones(len(calibration), np.float32)
    changed["calibration_units"] = _count_units(names, extended["outlier.calibration_modality"])
    if CONTRAST not in scorer.components:
        changed["reference_images"] = len(extended["outlier.reference"])
    return extended, changed


def _require_calibration(units: int, threshold: float) -> None:
    least = round(1 / threshold)
    if units < least:
        raise InputError(
            f"{units} calibration units; a threshold of {threshold} needs at least {least}: "
            "give more images, of other patients"
        )


def _count_units(names: list[str], owners: I32) -> dict[str, int]:
    return {POOLED: len(owners), **{name: int((owners == i).sum()) for i, name in enumerate(names)}}


def _calibrated(
    scorer: OutlierScorer,
    features: F32,
    modality: Sequence[str | None],
    errors: F32 | None,
) -> dict[str, Array]:
    scores = scorer.verdicts(features, None, errors).score
    owners = [scorer.groups.index(name) if name is not None else -1 for name in modality]
    return {"outlier.calibration": scores, "outlier.calibration_modality": np.asarray(owners, np.int32)}


def _reference_parts(scorer: OutlierScorer, reference: F32, units: Sequence[object] | None, errors: F32 | None) -> F64:
    """Return components of the reference against the rest of itself, float64 [R, C]; no row sees its own unit."""
    alone = np.arange(len(reference))
    owner = alone if units is None else np.unique(np.asarray(units), return_inverse=True)[1]
    rows = []
    for i, features in enumerate(reference.astype(np.float32)):
        parts = scorer.parts(features, None if errors is None else float(errors[i]))
        others = owner != owner[i]
        if others.sum() > scorer.k:
            stored, squares = scorer.reference[others], scorer.squares[others]
            parts[0] = _neighbour_distance(features, stored, squares, scorer.k, scorer.normalise)
        rows.append(parts)
    return np.asarray(rows, dtype=np.float64)


def _clusters(reference: F64, labels: NDArray[np.str_], shrinkage: float) -> tuple[F64, F64]:
    """Return the whitening matrix [F, F] of the pooled within-cluster covariance, and whitened cluster means [C, F]."""
    names = np.unique(labels)
    means = np.stack([reference[labels == name].mean(axis=0) for name in names])
    away = reference - means[np.searchsorted(names, labels)]
    covariance = away.T @ away / max(len(away) - len(names), 1)
    size = len(covariance)
    spread = max(float(np.trace(covariance)) / size, 1e-12)
    covariance = (1 - shrinkage) * covariance + shrinkage * spread * np.eye(size)
    values, vectors = np.linalg.eigh(covariance)
    whitening = (vectors / np.sqrt(values)) @ vectors.T
    return whitening, means @ whitening


def _stored(reference: F32, normalise: bool) -> NDArray[np.float16]:
    """Return reference rows as a bundle stores them: float16 [R, F], directions if `normalise` is set."""
    rows = reference.astype(np.float32)
    return (_directions(rows) if normalise else rows).astype(np.float16)


def _directions(rows: F32) -> F32:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), np.float32(1e-12))


def _neighbour_distance(features: F32, reference: F32, squares: F32, k: int, normalise: bool) -> float:
    """Return the distance to the k-th nearest row of reference (rows are directions if normalise is set)."""
    query = _directions(features) if normalise else features
    distances = squares - 2 * (reference @ query) + query @ query
    nearest = np.partition(distances, k - 1)[k - 1]
    return float(np.sqrt(max(float(nearest), 0.0)))
