"""How fast a preset trains here, and how much of the time it waits for data."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medlike.datasets import Dataset
from medlike.models.networks import build
from medlike.training.feed import FrozenFeed, PictureFeed, ahead
from medlike.training.loop import CLIP, batches_of, judge_batch, optimiser_of
from medlike.training.maps import Maps
from medlike.training.material import Material
from medlike.training.objective import hash_loss
from medlike.training.pictures import Pictures
from medlike.training.plan import TrainingPlan
from medlike.training.recipe import Recipe, recipe
from medlike.training.runner import descend
from medlike.training.train import choose_device

CLASSES = 16
WARM = 2


def bench_training(
    preset: str = "compact", protocol: str = "end-to-end", *, quick: bool = False, device: str = "auto"
) -> dict[str, Any]:
    """Training images a second and the share of time spent waiting for the next batch, on drawn noise.

    protocol: "end-to-end" or "frozen", see recipe. quick: fewer and smaller batches. Figures are medians over the
    steps after the first two.
    """
    where = choose_device(device)
    gpu = where.type == "cuda"
    size = (64 if gpu else 8) if quick else (256 if gpu else 32)
    steps = WARM + (4 if quick else 20)
    settings, _ = TrainingPlan(preset).settings()
    chosen = recipe("ours", protocol=protocol, batch=size)
    torch.manual_seed(0)
    network: Any = build(settings, 64, {"modality": 4, "label": CLASSES})
    network.to(where)
    if gpu:
        network.to(memory_format=torch.channels_last)
    part = _material(4 * size)
    feed = _feed(network, part, chosen, where)
    optimiser = optimiser_of(network, chosen)
    loss = hash_loss("sch", 64, [len(part) // CLASSES] * CLASSES, True)
    random = np.random.default_rng(0)
    weights = np.full(len(part), 1 / len(part))
    network.train()
    if protocol == "frozen":
        network.stem.eval()
    batches = ahead(batches_of(part, feed, size, steps, None, weights, random))
    took, waited = [], []
    for _ in range(steps):
        begun = time.perf_counter()
        batch = next(batches)
        got = time.perf_counter()
        descend(optimiser, judge_batch(network, chosen, feed, loss, batch, True).total, network, CLIP)
        if gpu:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - begun)
        waited.append(got - begun)
    return {
        "preset": preset,
        "protocol": protocol,
        "device": torch.cuda.get_device_name(where) if gpu else f"cpu, {torch.get_num_threads()} threads",
        "precision": "bfloat16" if gpu else "float32",
        "batch": size,
        "steps": steps - WARM,
        "images_per_second": round(size / statistics.median(took[WARM:]), 2),
        "waiting": round(sum(waited[WARM:]) / sum(took[WARM:]), 5),
    }


def _material(count: int) -> Material:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, 224, 224)).astype(np.uint8)
    pictures = Pictures(pixels, random.integers(0, 256, (count, 16, 16)).astype(np.uint8), "drawn")
    numbers: npt.NDArray[np.int64] = np.arange(count)
    labels = {"modality": numbers % 4, "label": numbers % CLASSES}
    return Material(Dataset("drawn", ()), pictures, labels, np.arange(count))


def _feed(network: Any, part: Material, chosen: Recipe, device: torch.device) -> FrozenFeed | PictureFeed:
    if chosen.protocol != "frozen":
        return PictureFeed(network, part.pictures, chosen, device)
    random = np.random.default_rng(1)
    strides = network.stem.kind.strides

    def drawn(index: int) -> np.ndarray:
        side = 224 // strides[index]
        return random.normal(size=(len(part), network.stem.channels[index], side, side)).astype(np.float16)

    pooled = [random.normal(size=(len(part), network.pooled_width)).astype(np.float16) for _ in range(chosen.views)]
    shallow, deep = drawn(network.shallow_index), drawn(network.deep_index)
    return FrozenFeed(network, Maps([shallow] * chosen.views, [deep] * chosen.views, pooled), chosen, device)
