"""The first step of training from a frozen stem: the depth branch alone, from pooled means.

It needs no maps, so thousands of steps take a minute; attention and fusion then start from a good feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from medlike.models.acir import ImageNetwork
from medlike.training.maps import Maps
from medlike.training.material import Material, sampling_weights
from medlike.training.objective import hash_loss, judge
from medlike.training.recipe import Recipe
from medlike.training.runner import Run, Stage, run_stage
from medlike.types import Progress

WARMUP = 50
REPORT = 500


# Labels by level, int64 [B], and pooled means of every depth, float32 [B,P].
PooledBatch = tuple[dict[str, Tensor], Tensor]


def pooled_batches(
    part: Material, maps: Maps, size: int, sampling: str, seed: tuple[int, int], device: torch.device
) -> Iterator[PooledBatch]:
    """Draw batches from pooled views without end: pictures by the weights of `sampling`, a random view of each."""
    random = np.random.default_rng(seed)
    views = torch.stack([torch.from_numpy(np.array(view)) for view in maps.pooled]).to(device)
    labels = {level: torch.from_numpy(known).to(device) for level, known in part.labels.items()}
    weights = sampling_weights(part.dataset, sampling)
    while True:
        rows = torch.from_numpy(random.choice(len(part), size, p=weights)).to(device)
        pooled = views[torch.from_numpy(random.integers(0, len(views), len(rows))).to(device), rows].float()
        yield {level: known[rows] for level, known in labels.items()}, pooled


def fit_depths(
    network: ImageNetwork,
    recipe: Recipe,
    part: Material,
    maps: Maps,
    device: torch.device,
    seed: int,
    say: Progress[str],
) -> None:
    """Train depth branch and classifier for recipe.depth_steps batches of pooled views, in place.

    Every member is judged alone, so that members stay different.
    """
    torch.manual_seed(seed)
    drawn = pooled_batches(part, maps, recipe.batch, recipe.sampling, (seed, 977), device)
    branch = network.depth_branch
    assert branch is not None, "a recipe with depth_steps has a depth branch"
    branch.requires_grad_(True)
    parameters = [*branch.parameters(), *network.classifier.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.depth_rate, betas=recipe.betas, weight_decay=recipe.decay)
    unused = hash_loss("sch", network.bits, [1], True)

    def begin(epoch: int, run: Run) -> None:
        network.train()
        network.stem.eval()

    def judged(batch: PooledBatch) -> tuple[Tensor, dict[str, float]]:
        known, pooled = batch
        members = [
            judge(outputs, known, pooled, unused, recipe, network.learned_width, coded=False)
            for outputs in network.members(pooled)
        ]
        return torch.stack([member.total for member in members]).sum(), members[0].parts

    def rate(epoch: int, step: int) -> float:
        share = min(1.0, (step + 1) / WARMUP) * (1 + math.cos(math.pi * step / recipe.depth_steps)) / 2
        return recipe.depth_rate * share

    stage = Stage(
        "depth branch",
        network,
        optimiser,
        lambda epoch: drawn,
        judged,
        recipe.depth_steps,
        rate=rate,
        begin=begin,
        report=REPORT,
    )
    run_stage(stage, say=say)
    # Later epochs must not train the members: together they would become alike.
    branch.requires_grad_(False)
    optimiser.zero_grad(set_to_none=True)
