"""The protocol `frozen`: one stem for all methods, tuned once, its maps cached; heads and losses train on those.

The stem is tuned by cross-entropy on the train part; four augmented views of every training picture pass it once.
Every trained cell then sees the same maps, so methods differ in what they are compared for and in nothing else.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medlike.datasets import Dataset
from medlike.errors import DatasetError
from medlike.evaluation.representation import Representation
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Result

STEM_EPOCHS = 8
# What a rival is trained with: its own loss and the auxiliary classifier that all of them get, from the first step,
# for as long as the full recipe takes with its depth branch (24 epochs of maps cost about its 3,000 steps and 8).
RIVAL = {
    "hash": 1.0, "contrast": 0.0, "preservation": 0.0, "classification": 0.5, "feature_epochs": 0, "depth_steps": 0,
    "epochs": 24, "rate": 6e-4, "start_rate": 1e-4, "end_rate": 2e-5,
}  # fmt: skip
# The same loss on features that were trained first, as the full recipe trains them: only the code's loss differs.
AFTER_FEATURES = {"hash": 1.0, "preservation": 0.0, "rate": 6e-4, "start_rate": 1e-4, "end_rate": 2e-5}


@dataclass(frozen=True)
class Outputs:
    """What a trained network says of queries and gallery. u: float [N, bits]; feature: float [N, D]."""

    query_u: np.ndarray
    gallery_u: np.ndarray
    query_feature: np.ndarray
    gallery_feature: np.ndarray
    train_feature: np.ndarray
    facts: Mapping[str, Any]

    def codes(self) -> tuple[Representation, Representation]:
        """The codes of queries and gallery: a bit is u > 0."""
        return (
            Representation(codes=np.packbits(self.query_u > 0, axis=1)),
            Representation(codes=np.packbits(self.gallery_u > 0, axis=1)),
        )

    def features(self) -> tuple[Representation, Representation]:
        """The blended features, the float side of the same network."""
        return Representation(features=self.query_feature), Representation(features=self.gallery_feature)


@dataclass(frozen=True)
class Frozen:
    """The shared start of trained cells. tuned: "ce" (cross-entropy on the train part) or "untouched"."""

    bench: Bench
    tuned: str = "ce"

    @cached_property
    def train(self) -> Dataset:
        """The headline samples of the train part."""
        return self.bench.part("train")

    @cached_property
    def validation(self) -> Dataset:
        """The headline samples of the validation part."""
        return self.bench.part("validation")

    def stem_file(self) -> Path:
        """The stem's weights: untouched ones as given, tuned ones made when they are not there yet."""
        given = self.bench.settings.stem
        if not given:
            raise DatasetError("trained cells need ImageNet weights of the stem: name the file with --stem")
        if self.tuned == "untouched":
            return Path(given)
        from medlike_research.studies.stem import tune_stem

        return tune_stem(self, Path(given), STEM_EPOCHS)

    def key(self, *more: Any) -> str:
        """Names caches: data, split, preset, and whatever else is given."""
        settings = self.bench.settings
        facts = [
            self.bench.split.digest, self.bench.data.name, self.tuned, settings.preset,
            self.bench.stem_digest, settings.limit, *more,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def shortened(epochs: int | None) -> dict[str, Any]:
    """Changes of the recipe for another number of epochs, its phases in proportion; none for None."""
    return {} if epochs is None else {"epochs": epochs, "feature_epochs": epochs * 2 // 3, "depth_steps": 50 * epochs}


def train_cell(
    frozen: Frozen,
    loss: str,
    bits: int,
    seed: int,
    network_changes: Mapping[str, Any] | None = None,
    recipe_changes: Mapping[str, Any] | None = None,
    fingerprint_side: int = 16,
) -> Outputs:
    """Train heads and loss on the cached maps; returns what the best epoch says of queries and gallery.

    A killed run goes on at its last epoch.
    """
    import torch

    from medlike.models.networks import build
    from medlike.models.presets import preset
    from medlike.training.augmentation import augmentation
    from medlike.training.feed import FrozenFeed, served_outputs
    from medlike.training.loop import fit
    from medlike.training.maps import stem_maps
    from medlike.training.material import classes_of, material
    from medlike.training.recipe import recipe
    from medlike.training.start import start_from_pooled

    bench, settings = frozen.bench, frozen.bench.settings
    cache = bench.work / "maps"
    changes = {"loss": loss, "protocol": "frozen", **shortened(settings.epochs), **dict(recipe_changes or {})}
    if settings.epochs is not None:  # what is asked for on the command line counts, phases stay as the rival has them
        changes["epochs"] = settings.epochs
    chosen = recipe("ours", **changes)
    classes = classes_of(frozen.train)
    torch.manual_seed(seed)
    network: Any = build(preset(settings.preset, **dict(network_changes or {})), bits, classes.sizes)
    network.stem.load(frozen.stem_file())
    network.share.fill_(chosen.share)
    device = torch.device(settings.device)
    network.to(device).eval()

    def maps_of(data: Dataset, views: int) -> tuple[Any, Any]:
        held = material(data, bench.split, classes, cache, bench.say)
        maps = stem_maps(network, held.pictures, cache, views, augmentation(chosen.augmentation), 0, bench.say)
        if fingerprint_side != 16:
            prints = _fingerprints(held.pictures.pixels, fingerprint_side)
            held = replace(held, pictures=replace(held.pictures, fingerprints=prints))
        return held, FrozenFeed(network, maps, chosen, device)

    part, feed = maps_of(frozen.train, chosen.views)
    validation, validation_feed = maps_of(frozen.validation, 1)
    if network.settings.linear:
        pooled = np.asarray(feed.maps.pooled[0], dtype=np.float64)
        sources = [sample.source for sample in part.dataset]
        start_from_pooled(network, pooled, sources, part.labels["label"], chosen.whitening)
    name = frozen.key(loss, bits, seed, dict(network_changes or {}), vars(chosen), fingerprint_side, settings.epochs)
    folder = bench.work / "runs" / name
    begun = time.perf_counter()
    trained = fit(
        network, chosen, part, feed, validation, validation_feed, folder, seed=seed, resume=True, say=bench.say
    )
    spent = time.perf_counter() - begun
    found = []
    for data in (bench.arena.queries, bench.arena.gallery):
        held, own = maps_of(data, 1)
        found.append(served_outputs(own, len(held), ("u", "feature")))
    known = served_outputs(feed, len(part), ("feature",))
    (folder / "checkpoint.pt").unlink(missing_ok=True)  # large, and of no use once its outputs are kept
    facts = {
        "epoch": trained.epoch,
        "epochs": len(trained.history),
        "train_seconds": spent,
        "validation_map": trained.history[trained.epoch - 1]["map"],
        "histogram": trained.histogram,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    return Outputs(found[0]["u"], found[1]["u"], found[0]["feature"], found[1]["feature"], known["feature"], facts)


def pooled_features(frozen: Frozen) -> dict[str, list[np.ndarray]]:
    """Means of the stem's maps of train, queries and gallery, float [N, D] each, in the two ways they are used.

    "last block": the last depth as it is, what a network's features usually are. "every depth": all depths, each
    dimension standardised by the train part and every depth weighing alike, as the untrained bundle has them.
    """
    import torch

    from medlike.models.acir import ImageNetwork
    from medlike.models.pooling import depth_statistics
    from medlike.models.presets import preset
    from medlike.training.augmentation import augmentation
    from medlike.training.maps import stem_maps
    from medlike.training.material import classes_of, material

    bench = frozen.bench
    classes = classes_of(frozen.train)
    network = ImageNetwork(preset(bench.settings.preset), 64, classes.sizes)
    network.stem.load(frozen.stem_file())
    network.to(torch.device(bench.settings.device)).eval()
    cache = bench.work / "maps"
    found = []
    for data, views in ((frozen.train, 4), (bench.arena.queries, 1), (bench.arena.gallery, 1)):
        held = material(data, bench.split, classes, cache, bench.say)
        maps = stem_maps(network, held.pictures, cache, views, augmentation("strong"), 0, bench.say)
        found.append(np.asarray(maps.pooled[0], dtype=np.float32))
    stem: Any = network.stem
    mean, std = (t.numpy() for t in depth_statistics(torch.from_numpy(found[0]), stem.channels))
    return {"last block": [f[:, -stem.channels[-1] :] for f in found], "every depth": [(f - mean) / std for f in found]}


def facts_of(outputs: Outputs, method: str, seed: int, **more: Any) -> Result:
    """What a cell's result says beside its figures."""
    return {"method": method, "seed": seed, **dict(outputs.facts), **more}


def _fingerprints(pixels: np.ndarray, side: int) -> np.ndarray:
    """Box means of letterboxed pictures uint8 [N, 224, 224]: uint8 [N, side, side]; side divides 224."""
    step = pixels.shape[1] // side
    blocks = pixels.reshape(len(pixels), side, step, side, step)
    return np.asarray(blocks.mean(axis=(2, 4)).round(), dtype=np.uint8)
