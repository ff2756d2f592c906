"""How long a run takes, from a handful of pictures and steps that are timed before it begins."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from medlike.datasets import Dataset, prepare_samples
from medlike.models.acir import ImageNetwork
from medlike.training.augmentation import augment, augmentation
from medlike.training.feed import mixed_precision
from medlike.training.maps import FEW
from medlike.training.objective import hash_loss, judge
from medlike.training.recipe import Recipe

HANDFUL, RUNS = 8, 3
# Seconds after which no further run is timed: large networks take many for one.
LONG = 5.0
# How much faster than torch the runtime is on a CPU; see maps.runner.
RUNTIME_GAIN = 3
# Seconds of exporting graphs, fitting and writing, whatever the number of images.
FIXED = 10.0


@dataclass(frozen=True)
class Costs:
    """Seconds of each kind of work.

    Attributes:
        read: Of reading and preparing a picture.
        augment: Of augmenting a picture.
        stem: Of a picture through the stem, by torch.
        step: Of a step of training on a batch.
        depth_step: Of a step of the depth branch on a batch.
        serve: Of a picture through everything behind the stem.
    """

    read: float
    augment: float
    stem: float
    step: float
    depth_step: float
    serve: float


def duration(
    costs: Costs, recipe: Recipe, images: int, train: int, validation: int, copies: int = 0, gain: float = 1.0
) -> float:
    """Return the seconds of a run whose cache is empty.

    Args:
        costs: What was timed.
        recipe: How the network is trained.
        images: Number of all images.
        train: Number of training images.
        validation: Number of validation images.
        copies: Further passes of every training and validation image through the stem, for a regional expert.
        gain: How much faster than `costs.stem` the stem is once many pictures run through it.
    """
    steps = recipe.epochs * max(1, train // recipe.batch)
    stem = costs.stem / gain
    seconds = FIXED + images * (costs.read + stem) + copies * (train + validation) * stem
    seconds += steps * costs.step + recipe.epochs * (train + validation) * costs.serve
    if recipe.protocol == "frozen":
        seconds += (recipe.views * train + validation) * stem + (recipe.views - 1) * train * costs.augment
        seconds += recipe.depth_steps * costs.depth_step
    else:
        seconds += steps * recipe.batch * costs.augment + recipe.epochs * (train + validation) * costs.stem
    return seconds


def gain_of(device: torch.device, passes: int) -> float:
    """Return how much faster than timed the stem is for a number of pictures."""
    return RUNTIME_GAIN if device.type == "cpu" and passes >= FEW else 1.0


def timed_costs(
    network: ImageNetwork, recipe: Recipe, part: Dataset, device: torch.device, precision: str = "auto"
) -> Costs:
    """Time a handful of pictures and steps. Weights and the state of random generators stay as they are.

    network: on the device, in evaluation mode. part: images, at least one.
    """
    rows = np.unique(np.linspace(0, len(part) - 1, HANDFUL).astype(np.int64))
    few = Dataset(part.name, tuple(part[int(row)] for row in rows))
    begun = perf_counter()
    pixels = np.stack([prepared.pixels for prepared in prepare_samples(few)])
    read = (perf_counter() - begun) / len(few)
    grey = torch.from_numpy(pixels).to(device).float().unsqueeze(1) / 255
    generator = torch.Generator(device).manual_seed(0)
    augmented = _seconds(lambda: augment(grey, augmentation(recipe.augmentation), generator), device) / len(few)
    images = grey.expand(-1, 3, -1, -1).contiguous()

    @torch.no_grad()
    def stem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps = network.stem(images)
        return maps[network.shallow_index], maps[network.deep_index], network.pooling(maps)

    size = min(recipe.batch, 64)
    repeated = [torch.cat([each] * -(-size // len(few)))[:size].float() for each in stem()]
    heads = [p for name, p in network.named_parameters() if not name.startswith("stem.")]
    learned = [p for p in (heads if recipe.protocol == "frozen" else network.parameters()) if p.requires_grad]

    def step() -> None:
        with mixed_precision(device, precision):
            if recipe.protocol == "frozen":
                outputs = network.encode(*repeated)
            else:
                outputs = network(images)
        loss = outputs["u"].float().sum() + outputs["feature"].float().sum()
        torch.autograd.grad(loss, learned, allow_unused=True)

    @torch.no_grad()
    def serve() -> None:
        with mixed_precision(device, precision):
            network.encode(*repeated)

    has_depths = network.depth_branch is not None and recipe.protocol == "frozen" and recipe.depth_steps
    return Costs(
        read=read,
        augment=augmented,
        stem=_seconds(stem, device) / len(few),
        step=_seconds(step, device) * recipe.batch / (size if recipe.protocol == "frozen" else len(few)),
        depth_step=_depth_step(network, recipe, repeated[2], device) if has_depths else 0.0,
        serve=_seconds(serve, device) / size,
    )


def _depth_step(network: ImageNetwork, recipe: Recipe, pooled: torch.Tensor, device: torch.device) -> float:
    """Return the seconds of a step of `fit_depths`, made with a copy of the network."""
    copied = copy.deepcopy(network).train()
    assert copied.depth_branch is not None
    parameters = [*copied.depth_branch.parameters(), *copied.classifier.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.0)
    batch = torch.cat([pooled] * -(-recipe.batch // len(pooled)))[: recipe.batch]
    labels = {level: torch.arange(len(batch), device=device) % size for level, size in copied.classes.items()}
    unused = hash_loss("sch", copied.bits, [1], True)

    def step() -> None:
        members = [
            judge(outputs, labels, batch, unused, recipe, copied.learned_width, coded=False).total
            for outputs in copied.members(batch)
        ]
        torch.stack(members).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    with torch.random.fork_rng():
        return _seconds(step, device)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest of some runs; the first one warms up, and others may be disturbed."""
    seconds = []
    for _ in range(RUNS):
        begun = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(perf_counter() - begun)
        if sum(seconds) > LONG:
            break
    return min(seconds)


def about(seconds: float) -> str:
    """Say a duration as people do: "about 3 minutes"."""
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}s"
    return "about a minute" if seconds >= 30 else "under a minute"
