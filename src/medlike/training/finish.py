"""From a trained network to a bundle: rounded weights, graph, outlier part, measured quality."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike import bundle as bundles
from medlike.bundle import Bundle
from medlike.bundle.session import INPUT
from medlike.codes.threads import cores
from medlike.datasets import Dataset, Split, label_tree, may_train
from medlike.datasets.licences import image_terms
from medlike.inference.encoder import MODALITY_FLOOR
from medlike.inference.outlier import OutlierScorer, fit_outlier
from medlike.models.export import export_graph, round_weights
from medlike.models.networks import Network, record
from medlike.training.material import Classes, Material
from medlike.training.outlier_fit import (
    choose_weights,
    component_table,
    fit_outlier_map,
    map_settings,
    one_of_each,
    settings_with,
    spread_rows,
)
from medlike.training.pictures import prepare_pictures
from medlike.training.quality import measure_bundle, measure_left_out
from medlike.types import F32, I64, U8, Array, JsonObject, Progress

REFERENCE = 2400
# With fewer calibration units than 1 / 0.03 no p-value could reach the threshold.
LEAST_CALIBRATION = 34


@dataclass(frozen=True)
class Collection:
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
    collection: Collection,
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
    bundle: Bundle, train: Material, collection: Collection, seed: int, say: Progress[str] = lambda line: None
) -> tuple[dict[str, Array], JsonObject | None]:
    """Return arrays and facts of the outlier score, none where the calibration part has too few units.

    Reference: training pictures. Calibration: one picture a unit of the calibration part. The components'
    weights come from the outlier pictures of the calibration half against the validation part, leaving one
    kind out at a time.
    """
    random = np.random.default_rng(seed)
    split = collection.split
    calibration_part = split.part(collection.everything, "calibration")
    usual = calibration_part.where(lambda sample: not sample.is_ood and may_train(sample))
    if len(usual):
        usual = _rows(usual, one_of_each(split.units(usual), random))
    if len(usual) < LEAST_CALIBRATION:
        say(f"{len(usual)} units for calibration, {LEAST_CALIBRATION} needed: the bundle gives no outlier verdicts")
        return {}, None
    say(f"calibrating on {len(usual)} units")
    keys = [f"{sample.source}/{sample.label}" for sample in train.dataset]
    rows = spread_rows(np.arange(len(train)), keys, REFERENCE, random)
    reference = runtime_outputs(bundle, train.pictures.pixels[rows])
    calibration = runtime_outputs(bundle, prepare_pictures(usual, collection.cache, say).pixels)
    fitting: JsonObject = {
        "reference_unit": train.units[rows].tolist(),
        # A label looks different at each source, so each source has a cluster of its own.
        "reference_cluster": [keys[row] for row in rows.tolist()],
        "reference_error": reference.get("reconstruction_error"),
        "calibration_error": calibration.get("reconstruction_error"),
    }
    both = (reference["outlier_features"], calibration["outlier_features"])
    modality = predicted(bundle, calibration)
    arrays, facts = fit_outlier(*both, modality, **fitting)
    outliers = calibration_part.where(lambda sample: sample.is_ood)
    beside = split.part(collection.everything, "validation").where(lambda s: not s.is_ood and may_train(s))
    if len(outliers) and len(beside):
        beside = _rows(beside, one_of_each(split.units(beside), random))
        scorer = OutlierScorer(arrays, facts)
        tables = []
        for part in (beside, outliers):
            given = runtime_outputs(bundle, prepare_pictures(part, collection.cache, say).pixels)
            tables.append(component_table(scorer, given["outlier_features"], given.get("reconstruction_error")))
        weights, left_out = choose_weights(tables[0], tables[1], [sample.coarse for sample in outliers])
        arrays, facts = fit_outlier(*both, modality, settings=settings_with(weights), **fitting)
        facts = facts | {"weights": list(weights), "kinds_left_out": left_out}
    return arrays, facts


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
        return [None] * len(outputs["bits"])
    sure = shares.max(axis=1) >= MODALITY_FLOOR
    return [bundle.modalities[i] if known else None for i, known in zip(shares.argmax(axis=1), sure, strict=True)]


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
