"""The outlier part of a new bundle: a contrast with other pictures, calibrated over sources left out in turn.

The other pictures are drawn by code; out-of-distribution images of the calibration part join them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from medlike.bundle import Bundle
from medlike.bundle.session import INPUT
from medlike.codes.threads import cores
from medlike.datasets import Dataset, Sample, prepare_batches
from medlike.datasets.labels import origin_of
from medlike.errors import TrainingError
from medlike.imaging import letterbox
from medlike.inference.encoder import MODALITY_FLOOR
from medlike.training.drawn_outliers import draw_outliers
from medlike.training.outlier_fit import fit_contrast, fit_without_kinds
from medlike.types import F32, I64, U8, Array, JsonObject, Mask

# With fewer calibration units than 1 / 0.03 no p-value could reach the threshold.
LEAST_CALIBRATION = 34
# Drawn pictures of a kind: at most, and one for so many known images.
DRAWN, KNOWN_TO_ONE = 50, 30


@dataclass(frozen=True, eq=False)
class KnownImages:
    """In-distribution images that the outlier part is fitted to.

    Attributes:
        samples: N images.
        features: Their outlier features, float32 [N, F].
        columns: Leading features that the score sees: those that training did not touch.
        units: Patient or case of each image, int64 [N].
        modality: Predicted modality of each image.
        calibrating: Images of the calibration part, bool [N].
    """

    samples: Sequence[Sample]
    features: F32
    columns: int
    units: I64
    modality: Sequence[str | None]
    calibrating: Mask


def fit_verdict(
    bundle: Bundle, known: KnownImages, outliers: Dataset, random: np.random.Generator
) -> tuple[dict[str, Array], JsonObject]:
    """Fit the outlier part of a bundle to known images, drawn pictures and out-of-distribution images.

    A hospital cannot be left out if it is the only one, or the only one with its modalities: without it the score would
    say what it thinks of an unknown modality. Of such hospitals the images of the calibration part are left out
    instead. "calibrated_on_units" of the facts names them.

    Args:
        bundle: The bundle, which may lack an outlier part.
        known: In-distribution images.
        outliers: Out-of-distribution images; may be empty.
        random: Draws the image of each unit.

    Returns:
        The arrays and the "outlier" part of the bundle's specification.

    Raises:
        TrainingError: The calibration part has too few units.
    """
    count = len(np.unique(known.units[known.calibrating]))
    if count < LEAST_CALIBRATION:
        raise TrainingError(f"{count} units for calibration, {LEAST_CALIBRATION} needed: give images of more patients")
    drawn_of_a_kind = min(DRAWN, max(2, len(known.samples) // KNOWN_TO_ONE))
    # The others are for judging: study `verdicts` fits to every second one too.
    pictures = draw_outliers(range(0, 2 * drawn_of_a_kind, 2))
    kinds = [sample.coarse for sample in outliers] + [kind for kind, drawn in pictures.items() for _ in drawn]
    batches = [runtime_outputs(bundle, batch)["outlier_features"] for batch in _batches(outliers, pictures)]
    strange = np.concatenate(batches)
    origins = [origin_of(sample) for sample in known.samples]
    lone = _lone_origins(known, origins)
    arrays, facts = fit_contrast(
        known.features, known.columns, origins, known.units, known.modality, strange, kinds, random, lone=lone
    )
    columns = slice(known.columns)
    without = fit_without_kinds(known.features[:, columns], origins, strange[:, columns], kinds, lone)
    return arrays, facts | {"kinds_left_out": without}


def _lone_origins(known: KnownImages, origins: Sequence[str]) -> dict[str, Mask]:
    """Return the origins none of whose modalities another one has, each with its images of the calibration part."""
    modalities = np.array([sample.modality for sample in known.samples])
    owners = np.array(origins)
    lone = {}
    for name in np.unique(owners).tolist():
        theirs = owners == name
        fitted = theirs & ~known.calibrating
        if fitted.any() and not np.isin(modalities[~theirs], modalities[theirs]).any():
            lone[name] = theirs & known.calibrating
    return lone


def _batches(outliers: Dataset, pictures: Mapping[str, list[U8]]) -> Iterator[U8]:
    for batch in prepare_batches(outliers):
        yield np.stack([prepared.pixels for prepared in batch])
    for drawn in pictures.values():
        yield np.stack([letterbox(picture)[0] for picture in drawn])


def untouched_columns(bundle: Bundle) -> int | None:
    """Return how many leading outlier features training never touched; None if that holds for all."""
    network: JsonObject = bundle.spec.get("network") or {}
    count = (network.get("outlier_map") or {}).get("pooled_outputs")
    return None if count is None else int(count)


def runtime_outputs(bundle: Bundle, pixels: U8) -> dict[str, F32]:
    """Return every output of the graph for pictures uint8 [N,224,224], by the runtime: name -> float32 [N, ...]."""
    session = bundle.session()
    names = [name for name in bundle.outputs if name not in ("cells", "cell_weight")]
    with ThreadPoolExecutor(cores()) as pool:
        rows = list(pool.map(lambda one: session.run(names, {INPUT: one[None]}), pixels))
    return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(names)}


def predicted(bundle: Bundle, outputs: Mapping[str, F32]) -> list[str | None]:
    """Return the modality that the bundle predicts for each row, None where it is unsure."""
    shares = outputs.get("modality")
    if shares is None or not bundle.modalities:
        return [None] * len(outputs["outlier_features"])
    sure = shares.max(axis=1) >= MODALITY_FLOOR
    return [bundle.modalities[i] if known else None for i, known in zip(shares.argmax(axis=1), sure, strict=True)]
