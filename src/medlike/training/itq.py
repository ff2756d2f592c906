"""The bundle that needs no training: an ImageNet stem as it is, and a rotation learned without labels."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.codes.rotation import learned_rotation
from medlike.datasets import (
    Dataset,
    Split,
    files_digest,
    hash_samples,
    join,
    label_tree,
    make_split,
    may_train,
    prepare_batches,
)
from medlike.errors import TrainingError
from medlike.inference.encoder import MODALITY_FLOOR, Encoder
from medlike.models.export import export_graph, round_weights
from medlike.models.rotation import RotationNetwork
from medlike.training.pictures import collection_digest
from medlike.training.quality import measure_bundle
from medlike.training.rotation import (
    balanced_weights,
    centred_basis,
    linear_classifier,
    principal_directions,
)
from medlike.training.verdict import KnownImages, fit_verdict
from medlike.types import F32, F64, Progress

FITTED_ON = ("train", "validation")
OUTPUTS = ("bits", "content", "modality", "outlier_features")
TERMS = (
    "Weights of the stem: EfficientNet-Lite0 trained on ImageNet, Apache-2.0. The linear maps on top, the "
    "outlier score and its calibration were fitted to images of mixed, "
    "mostly unstated terms, none of them non-commercial or no-derivatives; they are given under Apache-2.0 "
    "as far as the makers' rights go. Not a medical device."
)


@dataclass(frozen=True)
class RotationSettings:
    """Settings of the fit.

    bits: of a code. content: entries of the content vector. features: entries the outlier score sees.
    source_cap: images from which on a source gains no weight.
    whitening: how far outlier features are evened out, 0 not at all, 1 fully. stem: by name.
    """

    bits: int = 64
    content: int = 192
    features: int = 256
    source_cap: int = 750
    whitening: float = 0.5
    stem: str = "efficientnet_lite0"
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """What the fit adds to the stem: mean and deviation [P] of the pooled depths, a matrix an output."""

    mean: F64
    deviation: F64
    code: F64
    content: F64
    features: F64
    modality: tuple[F64, F64]
    modalities: list[str]


def train_itq(
    datasets: Sequence[Dataset],
    out: str | Path,
    stem_weights: str | Path,
    *,
    settings: RotationSettings = RotationSettings(),
    split: Split | None = None,
    cache: str | Path | None = None,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Fit and write the bundle that needs no training.

    It is fitted on in-domain images of the parts train and validation whose terms allow it. The outlier score is fitted
    to those of the part calibration too; quality is measured on gallery and query.

    Args:
        datasets: The collections; the quality is measured on headline labels of the first.
        out: Where the bundle goes.
        stem_weights: The safetensors file of the stem.
        settings: Of the fit.
        split: None makes one from the data.
        cache: Folder that keeps the features of the stem between runs; None keeps none.
        replace: Replace a bundle that is at `out`.
        say: Takes lines of progress.

    Returns:
        The bundle, with its measured quality.

    Raises:
        TrainingError: The bits, the stem or the data do not fit.
        DatasetError: The data cannot be read.
    """
    if settings.bits % 8 or not 8 <= settings.bits <= 512:
        raise TrainingError(f"{settings.bits} bits; give a multiple of 8 from 8 to 512")
    everything = join(*datasets) if len(datasets) > 1 else datasets[0]
    if split is None:
        say(f"hashing {len(everything)} images to find near-duplicates")
        split = make_split(everything, hash_samples(everything))
    network = _network(settings, stem_weights, modalities=0)
    known = everything.where(lambda sample: not sample.is_ood and may_train(sample))
    known = split.part(known, *FITTED_ON, "calibration")
    if not len(known):
        raise TrainingError(f"no image of the data is in train, validation or calibration of {split.name!r}")
    pooled = _pooled_features(network, known, stem_weights, cache, say).astype(np.float64)
    chosen = {sample.path for sample in split.part(known, *FITTED_ON)}
    fitting = np.array([sample.path in chosen for sample in known])
    say(f"fitting on {int(fitting.sum())} images")
    used = [sample for sample, take in zip(known, fitting, strict=True) if take]
    weights = balanced_weights([sample.source for sample in used], settings.source_cap)
    modalities = [sample.modality for sample in used]
    fitted = fit_rotation(pooled[fitting], weights, modalities, settings, network.pooling.slices())
    network = _network(settings, stem_weights, modalities=len(fitted.modalities))
    _fill(network, fitted)
    spec = {
        "name": f"medlike-itq-{settings.bits}",
        "preset": "itq",
        "network": asdict(settings) | {"modalities": len(fitted.modalities)},
        "bits": settings.bits,
        "content_dim": settings.content,
        "content_blocks": [settings.content],
        "modalities": fitted.modalities,
        "labels": label_tree(used),
        "training": {
            "data": collection_digest(known.samples),
            "images": int(fitting.sum()),
            "split": split.digest,
            "parts": list(FITTED_ON),
            "stem_sha256": hashlib.sha256(Path(stem_weights).read_bytes()).hexdigest(),
        },
        "terms": TERMS,
    }
    standard = (pooled - fitted.mean) / fitted.deviation
    features = (standard @ fitted.features).astype(np.float32)
    modality = predicted_modalities(standard, fitted)
    rows = np.flatnonzero([not sample.apart for sample in known])
    images = KnownImages(
        [known[row] for row in rows.tolist()],
        features[rows],
        features.shape[1],
        split.units(known)[rows],
        [modality[row] for row in rows.tolist()],
        ~fitting[rows],
    )
    say("exporting")
    graph = export_graph(round_weights(network), OUTPUTS)
    # Measured first: others may read the bundle as soon as it is in its place.
    with tempfile.TemporaryDirectory() as folder:
        draft = bundles.write(Path(folder) / "draft", graph, {}, spec)
        say("fitting the outlier score")
        outliers = split.part(everything, "calibration").where(lambda sample: sample.is_ood)
        arrays, facts = fit_verdict(draft, images, outliers, np.random.default_rng(settings.seed))
        draft = bundles.rewrite(draft, draft.path, arrays, {"outlier": facts}, replace=True)
        say("measuring")
        quality = measure_bundle(draft, everything, split, datasets[0])
        return bundles.rewrite(draft, out, None, {"quality": quality}, replace=replace)


def fit_rotation(
    pooled: F64, weights: F64, modalities: Sequence[str], settings: RotationSettings, slices: list[slice]
) -> Fitted:
    """Fit every linear map to pooled features, float64 [N, P], of in-domain images.

    slices: the columns of each depth.
    """
    mean, deviation = weighted_statistics(pooled, weights, slices)
    standard = (pooled - mean) / deviation
    widest = max(settings.bits, settings.content - 1, settings.features)
    directions, variances = principal_directions(standard, weights, widest)
    to_bits = directions[:, : settings.bits]
    rotation = learned_rotation(standard @ to_bits, weights, seed=settings.seed)
    basis = centred_basis(settings.content, settings.seed)
    evened = np.maximum(variances[: settings.features], 1e-9) ** (settings.whitening / 2)
    names = sorted(set(modalities) - {""})
    classes = np.array([names.index(name) if name else -1 for name in modalities], dtype=np.int64)
    named = classes >= 0
    # Rows of unit length would need huge weights, which the penalty forbids.
    scale = np.sqrt(standard.shape[1])
    table, bias = linear_classifier(standard[named] * scale, classes[named], weights[named])
    return Fitted(
        mean=mean,
        deviation=deviation,
        # Scaled so that a code's values and the network's other outputs are of order 1.
        code=to_bits @ rotation * np.sqrt(settings.bits),
        content=directions[:, : settings.content - 1] @ basis.T,
        features=directions[:, : settings.features] / evened,
        modality=(table * scale, bias),
        modalities=names,
    )


def predicted_modalities(standard: F64, fitted: Fitted) -> list[str | None]:
    """Return the modality that the bundle will predict for each row, None where it is unsure."""
    logits = standard @ fitted.modality[0] + fitted.modality[1]
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    best = share.argmax(axis=1).tolist()
    sure = (share.max(axis=1) >= MODALITY_FLOOR).tolist()
    return [fitted.modalities[i] if known else None for i, known in zip(best, sure, strict=True)]


def weighted_statistics(pooled: F64, weights: F64, slices: list[slice], floor: float = 1e-3) -> tuple[F64, F64]:
    """Return the weighted mean and deviation [P] by which every depth weighs alike: squared norms are about 1."""
    mean = np.average(pooled, axis=0, weights=weights)
    deviation = np.sqrt(np.average((pooled - mean) ** 2, axis=0, weights=weights))
    for part in slices:
        spread = deviation[part]
        width = part.stop - part.start
        deviation[part] = np.maximum(spread, floor * spread.mean()) * np.sqrt(width * len(slices))
    return mean, np.maximum(deviation, 1e-12)


def _network(settings: RotationSettings, stem_weights: str | Path, modalities: int) -> RotationNetwork:
    if not Path(stem_weights).is_file():
        raise TrainingError(f"no stem weights at {stem_weights}; give the safetensors file with --stem")
    network = RotationNetwork(settings.stem, settings.bits, settings.content, settings.features, modalities).eval()
    network.stem.load(stem_weights)
    return network


def _fill(network: RotationNetwork, fitted: Fitted) -> None:
    def tensor(value: F64) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(value.astype(np.float32)))

    with torch.no_grad():
        network.pooling.mean.copy_(tensor(fitted.mean))
        network.pooling.std.copy_(tensor(fitted.deviation))
        network.code.weight.copy_(tensor(fitted.code.T))
        assert network.modality is not None
        network.code.bias.zero_()
        network.content.weight.copy_(tensor(fitted.content.T))
        network.features.weight.copy_(tensor(fitted.features.T))
        network.modality.weight.copy_(tensor(fitted.modality[0].T))
        network.modality.bias.copy_(tensor(fitted.modality[1]))


def _pooled_features(
    network: RotationNetwork, dataset: Dataset, stem_weights: str | Path, cache: str | Path | None, say: Progress[str]
) -> F32:
    """Return the means of every depth, float32 [N, P]; they are kept under `cache` by what they depend on."""
    stem_digest = hashlib.sha256(Path(stem_weights).read_bytes()).hexdigest()
    key = hashlib.sha256((files_digest(dataset) + stem_digest).encode()).hexdigest()[:16]
    file = Path(cache) / f"pooled-{key}.npy" if cache else None
    if file is not None and file.is_file():
        say(f"features of {len(dataset)} images from {file}")
        return np.load(file)
    say(f"computing features of {len(dataset)} images")

    def served(net: torch.nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
        assert isinstance(net, RotationNetwork)
        pooled = net.pooling(net.stem(images))
        return {"bits": net.code(pooled), "content": pooled}

    graph = export_graph(network, ("bits", "content"), served)
    width = sum(network.stem.channels)
    spec = {"name": "pooled", "preset": "pooled", "bits": network.code.out_features, "content_dim": width}
    with tempfile.TemporaryDirectory() as folder:
        made = bundles.write(Path(folder) / "pooled", graph, {}, spec)
        rows: list[F32] = []
        with Encoder(made) as encoder:
            for batch in prepare_batches(dataset, 256):
                rows.append(encoder.features(batch, "content"))
                say(f"{sum(map(len, rows))} of {len(dataset)}")
    features = np.concatenate(rows)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, features)
    return features
