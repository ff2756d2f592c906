"""From a trained network to a bundle: rounded weights, graph, outlier part, measured quality."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.datasets import Dataset, Sample, Split, label_tree, may_train
from medlike.datasets.licences import image_terms
from medlike.models.export import export_graph, round_weights
from medlike.models.networks import Network, record
from medlike.training.material import Classes, Material
from medlike.training.outlier_fit import add_reconstruction, fit_outlier_map, map_settings, one_of_each, spread_rows
from medlike.training.pictures import prepare_pictures
from medlike.training.quality import measure_bundle, measure_left_out
from medlike.training.verdict import (
    LEAST_CALIBRATION,
    KnownImages,
    fit_verdict,
    predicted,
    runtime_outputs,
    untouched_columns,
)
from medlike.types import F32, I64, Array, JsonObject, Progress

# Training pictures that the outlier score is fitted to.
REFERENCE = 2400


@dataclass(frozen=True)
class TrainingCollection:
    """What a bundle is made from: everything, its split, the classes, and which collection is the headline's.

    cache: folder of prepared pictures. left_out: images of sources that took no part in anything, to be told from
    the others like outliers; not among `everything`.
    """

    everything: Dataset
    split: Split
    classes: Classes
    headline_of: Dataset
    cache: Path
    left_out: Dataset | None = None


def finish_bundle(
    network: Network,
    train: Material,
    outputs: Mapping[str, F32],
    collection: TrainingCollection,
    out: str | Path,
    *,
    name: str,
    preset: str,
    training: JsonObject,
    stem_terms: str,
    seed: int = 0,
    replace: bool = False,
    say: Progress[str] = lambda line: None,
) -> Bundle:
    """Round, export, calibrate and measure a trained network, and write it as a bundle at `out`.

    Weights are rounded in place, so that the network is what was shipped.

    Args:
        network: The trained network.
        train: The training pictures.
        outputs: "pooled" [N,P] and "feature" [N,D] of the training pictures.
        collection: Where calibration, outliers and measurements come from.
        out: Where the bundle goes.
        name: Name of the bundle.
        preset: Name of the preset.
        training: What the bundle keeps of the run.
        stem_terms: Terms of the weights of the stem.
        seed: Fixes the reference and calibration pictures.
        replace: Replace a bundle that is at `out`.
        say: Takes lines of progress.
    """
    network = network.eval().cpu()
    network.outlier_map = fit_outlier_map(
        outputs["pooled"], outputs["feature"], network.stem.channels, [s.source for s in train.dataset]
    )
    say("exporting")
    graph = export_graph(round_weights(network))
    spec: JsonObject = {
        "name": name,
        "preset": preset,
        "network": record(network) | {"outlier_map": map_settings(network.outlier_map)},
        "bits": network.bits,
        "content_dim": int(outputs["feature"].shape[1]),
        "content_blocks": list(network.content_blocks),
        "modalities": collection.classes.names.get("modality", []),
        "labels": label_tree(train.dataset),
        "training": {**training, "sources": data_terms(train.dataset)},
        "terms": terms(train.dataset, stem_terms),
    }
    if "cells" in [output.name for output in graph.graph.output]:
        spec["local_bits"] = network.local_bits
    with tempfile.TemporaryDirectory() as folder:
        draft = bundles.write(Path(folder) / "draft", graph, {}, spec)
        arrays, facts = outlier_part(draft, train, collection, seed, say)
        if facts is not None:
            draft = bundles.rewrite(draft, draft.path, arrays, {"outlier": facts}, replace=True)
        say("measuring")
        quality = measure_bundle(draft, collection.everything, collection.split, collection.headline_of)
        if collection.left_out is not None and facts is not None:
            known = collection.split.part(collection.everything, "query").where(lambda s: not s.is_ood and may_train(s))
            quality["left_out"] = measure_left_out(draft, known, collection.left_out)
        return bundles.rewrite(draft, out, None, {"quality": quality}, replace=replace)


def outlier_part(
    bundle: Bundle, train: Material, collection: TrainingCollection, seed: int, say: Progress[str] = lambda line: None
) -> tuple[dict[str, Array], JsonObject | None]:
    """Return arrays and facts of the outlier score, none where the calibration part has too few units.

    Fitted to training pictures, spread over sources and labels, and one picture of each unit of the parts validation
    and calibration. Images kept apart take no part.
    """
    random = np.random.default_rng(seed)
    split = collection.split
    parts = [split.part(collection.everything, name) for name in ("validation", "calibration")]
    outliers = parts[1].where(lambda sample: sample.is_ood)
    beside, usual = (_one_of_each_unit(part.where(_usable), split, random) for part in parts)
    if len(usual) < LEAST_CALIBRATION:
        say(f"{len(usual)} units for calibration, {LEAST_CALIBRATION} needed: the bundle gives no outlier verdicts")
        return {}, None
    say("fitting the outlier score")
    together = np.flatnonzero([not sample.apart for sample in train.dataset])
    keys = [f"{sample.source}/{sample.label}" for sample in train.dataset]
    rows = spread_rows(together, [keys[row] for row in together.tolist()], REFERENCE, random)
    pictures = [train.pictures.pixels[rows]]
    pictures += [prepare_pictures(part, collection.cache, say).pixels for part in (beside, usual) if len(part)]
    given = [runtime_outputs(bundle, pixels) for pixels in pictures]
    outputs = {name: np.concatenate([part[name] for part in given]) for name in given[0]}
    samples = (*_rows(train.dataset, rows), *beside, *usual)
    known = KnownImages(
        samples,
        outputs["outlier_features"],
        untouched_columns(bundle) or outputs["outlier_features"].shape[1],
        split.units(Dataset(collection.everything.name, samples)),
        predicted(bundle, outputs),
        np.arange(len(samples)) >= len(samples) - len(usual),
    )
    arrays, facts = fit_verdict(bundle, known, outliers, random)
    if "reconstruction_error" in outputs:
        return add_reconstruction(arrays, facts, outputs["reconstruction_error"])
    return arrays, facts


def _usable(sample: Sample) -> bool:
    return not sample.is_ood and not sample.apart and may_train(sample)


def _one_of_each_unit(dataset: Dataset, split: Split, random: np.random.Generator) -> Dataset:
    return _rows(dataset, one_of_each(split.units(dataset), random)) if len(dataset) else dataset


def data_terms(dataset: Dataset) -> dict[str, JsonObject]:
    """Return, by source, the number of images and their terms as the manifest states them, most frequent first."""
    counts_by_source: dict[str, Counter[str]] = {}
    for sample in dataset:
        counts = counts_by_source.setdefault(sample.source or dataset.name, Counter())
        counts[image_terms(sample.licence) or "not stated"] += 1
    return {
        source: {"images": sum(counts.values()), "terms": [term for term, _ in counts.most_common()]}
        for source, counts in sorted(counts_by_source.items())
    }


def terms(dataset: Dataset, stem_terms: str) -> str:
    """Return the terms of weights fitted to a dataset, as a text for people."""
    sources = len({sample.source for sample in dataset})
    return (
        f"{stem_terms} Trained on {len(dataset)} images of {sources} source{'s' * (sources != 1)}, listed with their "
        "terms under training.sources; images whose terms forbid commercial use or derivatives took no part. A "
        "research tool, not a medical device."
    )


def _rows(dataset: Dataset, rows: Sequence[int] | I64) -> Dataset:
    return Dataset(dataset.name, tuple(dataset[int(row)] for row in rows))
