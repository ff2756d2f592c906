"""A bundle from any vision tower: nothing is trained, and linear maps are fitted to one's own images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.bundle.bundle import file_digest
from medlike.bundle.phantoms import phantoms
from medlike.codes.rotation import leading_directions, learned_rotation
from medlike.datasets import Dataset, find_units, hash_samples, may_train, prepare_batches
from medlike.datasets.labels import origin_of
from medlike.errors import BundleError, TrainingError
from medlike.inference.encoder import Encoder, usable_cores
from medlike.inference.outlier import OutlierSettings, fit_outlier
from medlike.training.itq import weighted_statistics
from medlike.training.outlier_fit import fit_contrast, one_of_each, spread_rows
from medlike.training.pictures import collection_digest
from medlike.training.rotation import balanced_weights, centred_basis
from medlike.training.tower import Tower
from medlike.training.tower_graph import tower_graph
from medlike.types import F32, F64, I64, U8, Array, JsonObject, Mask, Progress

LEAST_IMAGES = 20
# Images from which on there are outlier verdicts.
LEAST_JUDGED = 500
# Share of the units that calibrate the verdict and take no part in the fit.
CALIBRATING = 0.3
REFERENCE = 2500
POWER = 0.5  # how far directions are evened out: 0 not at all, 1 fully
# Agreement of the bundle with the tower itself, below which it is not written.
LEAST_COSINE, LEAST_BITS = 0.99, 0.97
SILENT = 1e30  # deviation of features that are the same for every image
CHECKED = 32  # images that are compared


@dataclass(frozen=True)
class TowerFit:
    """Settings of the fit to a tower's features.

    Attributes:
        bits: Length of a code.
        content: Entries of a content vector at most.
        features: Entries that the outlier score sees at most.
        seed: Random seed.
        joint: The content vector is the tower's last vector, which it shares with a text tower.
    """

    bits: int = 64
    content: int = 192
    features: int = 256
    seed: int = 0
    joint: bool = False


@dataclass(frozen=True, eq=False)
class _Linear:
    """Linear maps of pooled features: mean and deviation [P], a matrix [P, outputs] and an offset by output."""

    mean: F64
    deviation: F64
    maps: dict[str, F64]
    offsets: dict[str, F64] = field(default_factory=dict)

    def of(self, pooled: F32, output: str) -> F32:
        """Return an output of pooled features, float32 [N, outputs]."""
        value = ((pooled - self.mean) / self.deviation) @ self.maps[output] + self.offsets.get(output, 0)
        return value.astype(np.float32)


def build_bundle(
    tower: Tower,
    data: Dataset,
    out: str | Path,
    settings: TowerFit = TowerFit(),
    *,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Fit and write a bundle from a vision tower, without training.

    The tower's features at every depth are standardised. Their leading principal directions, half evened out, are the
    content vector; a rotation learned without labels makes the code. From 500 images on there are outlier verdicts:
    calibrated over sources left out in turn if the data has out-of-distribution images and two origins, else on three
    tenths of the units, which then take no part in the fit.

    Args:
        tower: The tower.
        data: One's own images; images whose terms forbid training are left out.
        out: Folder of the bundle, whose name becomes the bundle's.
        settings: Of the fit.
        replace: Replace a bundle at `out`.
        say: Takes lines of progress.

    Raises:
        TrainingError: There are too few images, or the bundle does not give what the tower gives.
        BundleError: `out` is taken.
    """
    if settings.bits % 8 or not 8 <= settings.bits <= 512:
        raise TrainingError(f"{settings.bits} bits; give a multiple of 8 from 8 to 512")
    if Path(out).exists() and not replace:
        raise BundleError(f"{out} exists already; choose another folder or ask to replace the bundle")
    if settings.joint and tower.poolings[-1].layout != "vector":
        raise TrainingError(f"{tower.source} ends with {tower.poolings[-1].layout}, not with a vector that texts share")
    known = data.where(lambda sample: not sample.is_ood and may_train(sample))
    outliers = data.where(lambda sample: sample.is_ood)
    if len(known) < LEAST_IMAGES:
        raise TrainingError(f"{len(known)} usable images in {data.name}; {LEAST_IMAGES} are needed, 500 for verdicts")
    units = find_units(known, hash_samples(known))
    pooled = _features(tower, known, say)
    random = np.random.default_rng(settings.seed)
    judged = len(known) >= LEAST_JUDGED
    contrast = judged and len(outliers) > 0 and len({origin_of(sample) for sample in known}) > 1
    numbers = np.unique(units)
    calibrating: Mask = np.zeros(len(known), bool)
    if judged and not contrast:
        calibrating = np.isin(units, random.permutation(numbers)[: int(CALIBRATING * len(numbers))])
        judged = len(np.unique(units[calibrating])) >= round(1 / OutlierSettings().threshold)
    weights = balanced_weights([sample.source for sample in known])
    fitted = _fit(pooled[~calibrating], weights[~calibrating], tower.widths, settings)
    arrays: dict[str, Array] = {}
    facts: JsonObject | None = None
    if contrast:
        say("calibrating verdicts over origins left out in turn")
        features = fitted.of(pooled, "outlier_features")
        strange = fitted.of(_features(tower, outliers, say), "outlier_features")
        origins, kinds = [origin_of(sample) for sample in known], [sample.source for sample in outliers]
        arrays, facts = fit_contrast(
            features, features.shape[1], origins, units, [None] * len(known), strange, kinds, random
        )
    elif judged:
        say("calibrating verdicts")
        arrays, facts = _verdict(fitted.of(pooled, "outlier_features"), known, units, calibrating, random)
    else:
        say(
            f"{len(known)} images of {len(numbers)} patients or cases: the bundle gives no outlier verdicts, "
            f"which need {LEAST_JUDGED} images of some 120"
        )
        del fitted.maps["outlier_features"]
    spec: JsonObject = {
        "name": Path(out).resolve().name[:100],
        "preset": "encoder",
        "bits": settings.bits,
        "content_dim": fitted.maps["content"].shape[1],
        "content_blocks": [fitted.maps["content"].shape[1]],
        "preprocessing": {
            "size": tower.size, "fit": "letterbox", "padding": 0, "range": "uint8", "colour": "grey",
            "channels": tower.channels, "layout": tower.layout, "mean": list(tower.mean), "std": list(tower.std),
        },
        "network": {
            "encoder": tower.source if not tower.source.startswith("onnx:") else f"onnx:{Path(tower.source[5:]).name}",
            "file_sha256": file_digest(tower.file),
            "depths": [asdict(pooling) | {"shape": list(pooling.shape)} for pooling in tower.poolings],
        },
        "training": {
            "data": collection_digest(known.samples), "images": int((~calibrating).sum()), "settings": asdict(settings),
        },
        "outlier": facts,
        "terms": f"Weights of the encoder: licence {tower.licence}. The linear maps, and the calibration if there is "
        "one, were fitted to the images of whoever made this bundle. Not a medical device.",
    }  # fmt: skip
    say("writing, and comparing with the encoder itself")
    # Compared first: others may read the bundle as soon as it is in its place.
    with tempfile.TemporaryDirectory() as folder:
        graph = tower_graph(tower, fitted.mean, fitted.deviation, fitted.maps, fitted.offsets)
        draft = bundles.write(Path(folder) / "draft", graph, arrays, spec)
        return bundles.rewrite(draft, out, None, {"quality": _agreement(draft, tower, fitted, known)}, replace=replace)


def _features(tower: Tower, data: Dataset, say: Progress[str]) -> F32:
    """Return what the tower itself gives, pooled: float32 [N, P]."""
    say(f"computing features of {len(data)} images")
    runner = tower.runner()
    rows: list[F32] = []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in prepare_batches(data, side=tower.size):
            rows.extend(pool.map(runner.pooled, [prepared.pixels for prepared in batch]))
            if len(rows) % 1024 < len(batch):
                say(f"{len(rows)} of {len(data)}")
    features = np.stack(rows)
    if not np.isfinite(features).all():
        raise TrainingError(f"{tower.source} gives values that are not finite; are --size and --normalise right?")
    return features


def _fit(pooled: F32, weights: F64, widths: Sequence[int], settings: TowerFit) -> _Linear:
    slices = [slice(start, end) for start, end in pairwise(accumulate(widths, initial=0))]
    mean, deviation = weighted_statistics(pooled.astype(np.float64), weights, slices)
    # What an image never changes says nothing, and its rounding must not be blown up.
    deviation[pooled.std(axis=0) <= 1e-5 * np.abs(mean) + 1e-12] = SILENT
    standard = (pooled - mean) / deviation
    most = max(settings.bits, settings.content - 1, settings.features)
    directions, variances = leading_directions(standard, weights, min(most, len(pooled) - 1))
    if len(variances) < 2:
        raise TrainingError(f"{len(pooled)} images look alike to the encoder; are --size and --normalise right?")
    directions = directions / variances ** (POWER / 2)
    count = min(settings.bits, directions.shape[1])
    evened = standard @ directions[:, :count]
    # Fewer directions than bits are rotated several times.
    turns = [
        learned_rotation(evened, weights, seed=settings.seed + turn) for turn in range(-(-settings.bits // count))
    ]
    content = min(settings.content - 1, directions.shape[1])
    maps = {
        "bits": directions[:, :count] @ np.concatenate(turns, axis=1)[:, : settings.bits],
        "content": directions[:, :content] @ centred_basis(content + 1, settings.seed).T,
        "outlier_features": directions[:, : settings.features],
    }
    if not settings.joint:
        return _Linear(mean, deviation, maps)
    # The vector itself: turned, so that it sums to zero and centring takes nothing away.
    basis = centred_basis(widths[-1] + 1, settings.seed)
    maps["content"] = np.zeros((len(mean), len(basis)))
    maps["content"][slices[-1]] = np.where(deviation[slices[-1]] < SILENT, deviation[slices[-1]], 0)[:, None] * basis.T
    return _Linear(mean, deviation, maps, {"content": mean[slices[-1]] @ basis.T})


def _verdict(
    features: F32, known: Dataset, units: I64, calibrating: Mask, random: np.random.Generator
) -> tuple[dict[str, Array], JsonObject]:
    inside, outside = np.flatnonzero(~calibrating), np.flatnonzero(calibrating)
    keys = [f"{known[row].source}/{known[row].label}" for row in inside.tolist()]
    reference = spread_rows(inside, keys, REFERENCE, random)
    calibration = outside[one_of_each(units[outside], random)]
    return fit_outlier(
        features[reference],
        features[calibration],
        [None] * len(calibration),
        reference_unit=units[reference].tolist(),
        reference_cluster=[known[row].label for row in reference.tolist()],
    )


def _agreement(made: Bundle, tower: Tower, fitted: _Linear, known: Dataset) -> JsonObject:
    """Compare a bundle with the tower itself on golden inputs and images, and return how far they agree.

    The tower's own graph is run on pixels prepared by other means, and pooled and mapped in NumPy.
    """
    few = Dataset(known.name, known.samples[:CHECKED])
    pictures: list[U8] = [*phantoms(size=tower.size)]
    pictures += [prepared.pixels for batch in prepare_batches(few, side=tower.size) for prepared in batch]
    runner = tower.runner()
    pooled = np.stack([runner.pooled(picture) for picture in pictures])
    with Encoder(made) as encoder:
        outputs = encoder.outputs(pictures)
    content = fitted.of(pooled, "content")
    norms = np.linalg.norm(content, axis=1) * np.linalg.norm(outputs["content"], axis=1)
    cosine = float((np.einsum("nd,nd->n", content, outputs["content"]) / np.maximum(norms, 1e-12)).min())
    equal = float(((fitted.of(pooled, "bits") > 0) == (outputs["bits"] > 0)).mean())
    if not (cosine >= LEAST_COSINE and equal >= LEAST_BITS):
        raise TrainingError(
            f"the bundle does not give what {tower.source} gives: cosine {cosine:.3f} at least {LEAST_COSINE}, equal "
            f"bits {equal:.1%} at least {LEAST_BITS:.0%}; its weights do not survive float16"
        )
    return {
        "how": f"not measured; agrees with the encoder on {len(pictures)} pictures: smallest cosine of content vectors "
        f"{cosine:.4f}, equal bits {equal:.1%}",
        "smallest_cosine": round(cosine, 6),
        "equal_bits": round(equal, 6),
    }
