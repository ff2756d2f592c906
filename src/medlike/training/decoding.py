"""Stage 2: everything frozen, a decoder learns to draw the picture again from the deepest map.

Nan et al. 2025, section on reconstruction: mean squared error on [0,1] images; the schedule is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.models.decoder import Decoder
from medlike.models.networks import Network
from medlike.training.feed import grey_batch, mixed_precision
from medlike.training.pictures import Pictures
from medlike.training.recipe import Recipe
from medlike.training.runner import Stage, run_stage
from medlike.types import I64, Progress

DeepMaps = Callable[[I64], Tensor]


def fit_decoder(
    network: Network,
    recipe: Recipe,
    pictures: Pictures,
    deep: DeepMaps,
    validation: Pictures,
    validation_deep: DeepMaps,
    folder: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    say: Progress[str] = lambda line: None,
) -> list[dict[str, float]]:
    """Train the decoder of a network and leave its best epoch in it.

    Args:
        network: A network with a decoder; all else of it is frozen.
        recipe: How it is trained.
        pictures: What the decoder draws again.
        deep: rows -> the deepest maps of the stem, [n,C,7,7], on the device of the network.
        validation: Pictures by whose error the best epoch is chosen.
        validation_deep: As `deep`, of those pictures.
        folder: Holds checkpoint, history and curves.
        seed: Fixes the order of the pictures.
        resume: Go on from the checkpoint in `folder`.
        say: Takes lines of progress.

    Returns:
        The history, a row for each epoch.

    Raises:
        TrainingError: There is no decoder, the checkpoint is of another run, or the loss is not finite.
    """
    device = next(network.parameters()).device
    decoder = network.decoder
    if not isinstance(decoder, Decoder):
        raise TrainingError("this network has no decoder; build it with decoder=True")
    network.eval().requires_grad_(False)
    decoder.requires_grad_(True)
    batch = min(recipe.batch, len(pictures))
    steps = max(1, len(pictures) // batch)

    def batches(epoch: int) -> Iterator[I64]:
        order = np.random.default_rng((seed, 7, epoch)).permutation(len(pictures))
        return (order[step * batch : (step + 1) * batch] for step in range(steps))

    def rate(epoch: int, step: int) -> float:
        share = (epoch + step / steps) / recipe.decoder_epochs
        return recipe.decoder_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)

    def judged(rows: I64) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            maps = deep(rows)
        with mixed_precision(device):
            error = ((decoder(maps).float() - grey_batch(pictures, rows, device)) ** 2).mean()
        return error, {"error": float(error.detach())}

    stage = Stage(
        "decoder",
        decoder,
        torch.optim.AdamW(decoder.parameters(), lr=recipe.decoder_rate, betas=recipe.betas),
        batches,
        judged,
        steps,
        recipe.decoder_epochs,
        rate=rate,
        validate=lambda epoch: {"validation_error": _validated(decoder, validation, validation_deep, batch, device)},
        figure="validation_error",
        lower=True,
        identity={
            "stage": "decoder", "images": len(pictures), "digest": pictures.digest, "seed": seed,
            "rate": recipe.decoder_rate, "epochs": recipe.decoder_epochs, "batch": recipe.batch,
        },
        advice="--set decoder_rate",
    )  # fmt: skip
    return run_stage(stage, Path(folder), resume=resume, say=say).history


@torch.inference_mode()
def _validated(decoder: Decoder, pictures: Pictures, deep: DeepMaps, batch: int, device: torch.device) -> float:
    total = 0.0
    for start in range(0, len(pictures), batch):
        rows = np.arange(start, min(start + batch, len(pictures)))
        with mixed_precision(device):
            away = (decoder(deep(rows)).float() - grey_batch(pictures, rows, device)) ** 2
        total += float(away.mean()) * len(rows)
    return total / len(pictures)
