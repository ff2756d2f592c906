"""Stage 2: everything frozen, a decoder learns to draw the picture again from the deepest map.

Nan et al. 2025, section on reconstruction: mean squared error on [0,1] images; the schedule is ours.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.files import drafted
from medlike.training.curves import keep_history
from medlike.training.feed import mixed_precision
from medlike.training.loop import load_checkpoint
from medlike.training.pictures import Pictures
from medlike.training.recipe import Recipe

Say = Callable[[str], None]
DeepMaps = Callable[[npt.NDArray[np.int64]], Tensor]
CHECKPOINT = "decoder.pt"


def fit_decoder(
    network: Any,
    recipe: Recipe,
    pictures: Pictures,
    deep: DeepMaps,
    validation: Pictures,
    validation_deep: DeepMaps,
    folder: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    say: Say = lambda line: None,
) -> list[dict[str, float]]:
    """Train the decoder of a network and leave its best epoch in it; returns the history.

    deep: rows -> the stem's deepest maps [n,C,7,7] on the network's device. Best by the error on the
    validation pictures. resume: go on from the checkpoint in `folder`. TrainingError for a loss that is not
    finite and for a checkpoint of another run.
    """
    folder = Path(folder)
    device = next(network.parameters()).device
    decoder = network.image.decoder if hasattr(network, "image") else network.decoder
    if decoder is None:
        raise TrainingError("this network has no decoder; build it with decoder=True")
    network.eval().requires_grad_(False)
    decoder.requires_grad_(True)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=recipe.decoder_rate, betas=recipe.betas)
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"error": math.inf, "state": _kept(decoder)}
    identity = {"images": len(pictures), "digest": pictures.digest, "seed": seed, "rate": recipe.decoder_rate}
    identity |= {"epochs": recipe.decoder_epochs, "batch": recipe.batch}
    if resume and (folder / CHECKPOINT).is_file():
        held = load_checkpoint(folder / CHECKPOINT)
        if json.loads(json.dumps(held["identity"])) != json.loads(json.dumps(identity)):
            raise TrainingError(f"{folder / CHECKPOINT} belongs to another run; remove it to start stage 2 again")
        decoder.load_state_dict(held["decoder"])
        optimiser.load_state_dict(held["optimiser"])
        history, best = held["history"], held["best"]
        say(f"going on after epoch {len(history)} of {recipe.decoder_epochs} of the decoder")
    batch = min(recipe.batch, len(pictures))
    steps = max(1, len(pictures) // batch)
    for epoch in range(len(history), recipe.decoder_epochs):
        random = np.random.default_rng((seed, 7, epoch))
        order = random.permutation(len(pictures))
        started, total = time.perf_counter(), 0.0
        for step in range(steps):
            share = (epoch + step / steps) / recipe.decoder_epochs
            optimiser.param_groups[0]["lr"] = recipe.decoder_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
            rows = order[step * batch : (step + 1) * batch]
            with torch.no_grad():
                maps = deep(rows)
            with mixed_precision(device):
                error = ((decoder(maps).float() - _grey(pictures, rows, device)) ** 2).mean()
            if not math.isfinite(float(error.detach())):
                raise TrainingError(
                    f"the decoder's error of epoch {epoch + 1}, step {step + 1} is not finite; lower --set decoder_rate"
                )
            optimiser.zero_grad(set_to_none=True)
            error.backward()
            optimiser.step()
            total += float(error.detach())
        score = _validated(decoder, validation, validation_deep, batch, device)
        seconds = time.perf_counter() - started
        row = {"epoch": epoch + 1, "error": total / steps, "validation_error": score, "seconds": seconds}
        history.append({name: value if name == "epoch" else round(float(value), 6) for name, value in row.items()})
        if score < best["error"]:
            best = {"error": score, "state": _kept(decoder)}
        state = {"decoder": decoder.state_dict(), "optimiser": optimiser.state_dict()}
        with drafted(folder / CHECKPOINT, alone=True) as draft:
            torch.save({"identity": identity, **state, "history": history, "best": best}, draft)
        keep_history(history, folder, "decoder")
        say(f"decoder, epoch {epoch + 1} of {recipe.decoder_epochs}: error {score:.5f}")
    decoder.load_state_dict(best["state"])
    return history


@torch.inference_mode()
def _validated(decoder: Any, pictures: Pictures, deep: DeepMaps, batch: int, device: torch.device) -> float:
    total = 0.0
    for start in range(0, len(pictures), batch):
        rows = np.arange(start, min(start + batch, len(pictures)))
        with mixed_precision(device):
            away = (decoder(deep(rows)).float() - _grey(pictures, rows, device)) ** 2
        total += float(away.mean()) * len(rows)
    return total / len(pictures)


def _grey(pictures: Pictures, rows: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(pictures.pixels[rows]).to(device).float().unsqueeze(1) / 255


def _kept(decoder: Any) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in decoder.state_dict().items()}
