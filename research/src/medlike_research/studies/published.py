"""Study `published`: the networks of the papers, trained for real, beside the small one that ships.

On a GPU, without `--epochs`, the published schedule runs: 150 epochs of the whole network, batch 256. On a CPU that
takes weeks; `--epochs` asks for fewer with the stem fixed up to layer 4, its maps cached once, and small batches, so
that few epochs have steps enough. Every cell goes on after a kill from its last epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medlike.datasets import PARTS, Dataset
from medlike.errors import DatasetError
from medlike.evaluation.representation import Representation
from medlike_research.studies.bench import Bench
from medlike_research.studies.measured import grouped, measure, method_bars, quality_tables
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = "What do the networks of the papers reach in full size, beside the small network that ships?"
BITS = 64
# Preset: what it is called, recipe, seconds of a short training on two cores.
NETWORKS = {
    "acir": ("ACIR as published", "paper", 3 * 3600.0),
    "hmar": ("HMAR as published", "paper", 4 * 3600.0),
    "compact": ("compact, our recipe", "ours", 900.0),
}
# Of a training shorter than published. A batch of 256 would take 8 steps an epoch of these images, and 13 GB.
SHORTER = {"protocol": "frozen", "warmup": 1, "batch": 64, "views": 2}
# Training pictures that the validation of a shorter training searches: with all of them it takes as long as an epoch.
GALLERY = 800
OUTPUTS = ("u", "feature")
TRAINING = (
    "method", "parameters, million", "images", "protocol", "epochs", "best epoch", "batch", "precision", "hours",
    "validation mAP",
)  # fmt: skip
CURVES = ("method", "epoch", "hash loss", "classification loss", "validation mAP", "minutes")
REGIONAL = (
    "method", "epochs of cells", "found before", "found after", "entropy of a bit, mean", "entropy of the worst bit"
)  # fmt: skip


def cells(bench: Bench) -> list[Cell]:
    """One cell a network and seed: the published ones first."""
    return [
        Cell(f"{preset}-{seed}", _run(bench, preset, seed), seconds, preset)
        for preset, (_, _, seconds) in NETWORKS.items()
        for seed in bench.settings.seeds[:1]
    ]


def _run(bench: Bench, preset: str, seed: int) -> Callable[[], Result]:
    return lambda: train_network(bench, preset, seed)


def headline(bench: Bench) -> Dataset:
    """The headline images of every part."""
    return Dataset(bench.data.name, tuple(sample for part in PARTS for sample in bench.part(part)))


def plan_of(bench: Bench, preset: str, seed: int) -> Any:
    """How a network is trained: as published, or for `--epochs` with the stem fixed."""
    from medlike.training.feed import has_bfloat16
    from medlike.training.plan import TrainingPlan
    from medlike.training.train import choose_device

    settings = bench.settings
    recipe = NETWORKS[preset][1]
    stem = settings.stem if recipe == "paper" else None
    if recipe == "paper" and not stem:
        raise DatasetError("the published networks start from ImageNet weights of a ResNet-50: name the file, --stem")
    shorter = {} if settings.epochs is None or recipe == "ours" else {**SHORTER, "epochs": settings.epochs}
    if settings.limit is not None:
        shorter["batch"] = 16  # a thinned collection has few pictures; larger batches would be refused
    precision = "bfloat16" if recipe == "paper" and has_bfloat16(choose_device(settings.device)) else "auto"
    return TrainingPlan(preset, BITS, recipe, shorter, 1, seed, stem, settings.device, precision)


def train_network(bench: Bench, preset: str, seed: int) -> Result:
    """Train a network on the headline images and measure its codes and features on gallery and query."""
    from medlike.training.augmentation import augmentation
    from medlike.training.feed import FrozenFeed, PictureFeed, computes_in, served_outputs
    from medlike.training.loop import VALIDATION_GALLERY
    from medlike.training.maps import stem_maps
    from medlike.training.material import material
    from medlike.training.train import check_plan, first_stage, prepare_run, regional_stages

    name, recipe_name, _ = NETWORKS[preset]
    plan = plan_of(bench, preset, seed)
    work, cache = bench.work / "runs" / f"published-{bench.digest[:12]}-{preset}-{seed}", bench.work / "maps"
    check_plan(plan, work)
    ready = prepare_run([headline(bench)], plan, work, cache, bench.split, bench.say)
    gallery = GALLERY if "epochs" in plan.changes else VALIDATION_GALLERY
    trained = first_stage(ready, plan, work, True, bench.say, gallery)
    outputs = []
    for part in (bench.arena.queries, bench.arena.gallery):
        pictures = material(part, bench.split, ready.collection.classes, cache, bench.say)
        feed: FrozenFeed | PictureFeed
        if isinstance(ready.feed, FrozenFeed):
            chosen = augmentation(ready.recipe.augmentation)
            maps = stem_maps(ready.network, pictures.pictures, cache, 1, chosen, seed, bench.say)
            feed = replace(ready.feed, maps=maps, precision="float32")
        else:
            feed = replace(ready.feed, pictures=pictures.pictures, precision="float32")
        outputs.append(served_outputs(feed, len(pictures), OUTPUTS))
    facts: Result = {
        "method": name,
        "seed": seed,
        "recipe": recipe_name,
        "protocol": ready.recipe.protocol,
        "batch": ready.recipe.batch,
        "images": len(ready.train),
        "parameters": sum(p.numel() for p in (ready.regional or ready.network).parameters()),
        "precision": computes_in(ready.feed.device, plan.precision),
        "epoch": trained.epoch,
        "epochs": len(trained.history),
        "history": trained.history,
        "train_seconds": sum(row["seconds"] for row in trained.history),
        "validation_map": trained.history[trained.epoch - 1]["map"],
    }
    codes = [Representation(codes=np.packbits(each["u"] > 0, axis=1)) for each in outputs]
    features = [Representation(features=each["feature"]) for each in outputs]
    result: Result = {
        "parts": [
            measure(bench, *codes, **facts),
            measure(bench, *features, **facts | {"method": f"{name}, content (float features)", "history": None}),
        ]
    }
    if ready.regional is not None:
        result["regional"] = regional_stages(ready, plan, work, True, bench.say)
    return result


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Retrieval of each network, how it was trained, its curve, and what the regional stages of HMAR say."""
    parts = {f"{cell}-{i}": part for cell, result in done.items() for i, part in enumerate(result["parts"])}
    methods = grouped(parts)
    small = NETWORKS["compact"][0]
    tables = quality_tables(bench, methods, small) if methods else []
    trained = [result["parts"][0] for result in done.values()]
    curves = [
        [part["method"], int(row["epoch"]), row["hash"], row["classification"], row.get("map"), row["seconds"] / 60]
        for part in trained
        for row in part["history"]
        if "hash" in row
    ]
    tables += [("Training", TRAINING, [_training(part) for part in trained]), ("Curves", CURVES, curves)]
    if regional := [_regional(result) for result in done.values() if "regional" in result]:
        tables.append(("Regional codes", REGIONAL, regional))
    # Each cell has a preset of its own, so the setting says nothing here.
    configuration = bench.configuration()
    del configuration["settings"]["preset"]
    plots = [method_bars(bench, methods)] if methods else []
    return Summary(tables, plots, _notes(bench, trained), {"configuration": configuration})


def _training(part: Result) -> list[Any]:
    return [
        part["method"], part["parameters"] / 1e6, part["images"], part["protocol"], part["epochs"], part["epoch"],
        part["batch"], part["precision"], part["train_seconds"] / 3600, part["validation_map"],
    ]  # fmt: skip


def _regional(result: Result) -> list[Any]:
    history = result["regional"]["cells"]
    entropy = result["regional"]["entropy"]
    first, last = history[0], history[-1]
    return [
        result["parts"][0]["method"], int(last["epoch"]), first["found"], last["found"], entropy["mean"],
        entropy["worst"],
    ]  # fmt: skip


def _notes(bench: Bench, trained: list[Result]) -> list[str]:
    """Say by how much a training is shorter than published."""
    epochs = bench.settings.epochs
    if epochs is None or not trained:
        return []
    return [
        f"Shorter than published: {epochs} epochs and not 150, one seed, the stem fixed at its ImageNet weights, "
        f"{SHORTER['views']} cached views of each image, batch {SHORTER['batch']} and not 256. Without --epochs, "
        "with --device cuda, the same command runs the published schedule.",
        "Hours count the steps of the epochs, on one core that other programs shared.",
    ]


STUDY = Study("published", QUESTION, cells, summarise)
