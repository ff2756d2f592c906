"""Stage 2 of HMAR: the cells' expert learns from pictures and their copies, everything else frozen.

After Yuan 2026 (arXiv 2603.16679): positives are the same place of a picture and of its copy, no box is used.
Windows, negatives, start and the terms on the bits are our definition.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medlike.models.experts import GRID, CellExpert
from medlike.models.hmar import RegionalNetwork
from medlike.training.cells import CellViews
from medlike.training.checkpoints import Content
from medlike.training.losses.bit_balance import bit_balance
from medlike.training.losses.bit_covariance import bit_covariance
from medlike.training.losses.cell_contrast import cell_contrast
from medlike.training.losses.quantisation import quantisation
from medlike.training.runner import Stage, run_stage
from medlike.types import F32, F64, I64, Mask, Progress

CLIP = 5.0
VALIDATION_BATCHES = 12


@dataclass(frozen=True)
class CellRecipe:
    """Settings of stages 2 and 3.

    cell_copies: copies of each picture. cell_epochs, cell_steps: epochs, and batches in each. cell_images,
    cell_samples: pictures in a batch, and cells of a window of each. cell_rate: learning rate. cell_temperature: of
    both contrasts. cell_windows, cell_balance, cell_decorrelation, cell_quantisation: weights of the contrast of
    windows and of the terms on the bits. cell_hold: weight of keeping the similarities that the start had.
    cell_linear_held: the linear path stays as it started. cell_sides: smallest and largest side of a window.
    cell_far: cells of one picture that are at least so far apart are negatives. cell_alike: correlation of pixels
    above which cells are none. cell_whitening: of the start. gate_queries, gate_candidates, gate_steps, gate_rate:
    stage 3. head_steps, head_rate: of the heads that stage 1 adds.
    """

    cell_copies: int = 1
    cell_epochs: int = 2
    cell_steps: int = 150
    cell_images: int = 48
    cell_samples: int = 16
    cell_rate: float = 5e-4
    cell_temperature: float = 0.1
    cell_windows: float = 1.0
    cell_balance: float = 1.0
    cell_decorrelation: float = 1.0
    cell_quantisation: float = 0.1
    cell_hold: float = 1000.0
    cell_linear_held: bool = True
    cell_sides: tuple[int, int] = (2, 7)
    cell_far: float = 3.0
    cell_alike: float = 0.9
    cell_whitening: float = 0.0
    gate_queries: int = 400
    gate_candidates: int = 48
    gate_steps: int = 300
    gate_rate: float = 3e-3
    head_steps: int = 400
    head_rate: float = 2e-3


@dataclass(frozen=True)
class CellBatch:
    """Cells of one window of each picture and of its copy.

    first, second: float32 [M,C]; image: int64 [M], which of the batch's pictures; row: int64 [M], which of all;
    place: int64 [M,2]; prints: float32 [M,64].
    """

    first: Tensor
    second: Tensor
    image: Tensor
    row: Tensor
    place: Tensor
    prints: Tensor


def fit_cells(
    network: RegionalNetwork,
    recipe: CellRecipe,
    views: CellViews,
    modality: F32 | None,
    weights: F64,
    validation: CellViews,
    validation_modality: F32 | None,
    folder: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    say: Progress[str] = lambda line: None,
) -> list[dict[str, float]]:
    """Train the cell expert of a network from where it stands.

    Args:
        network: The network; all of it but the expert is frozen.
        recipe: How the expert is trained.
        views: Cells of the pictures and their copies.
        modality: float32 [N,M] of the pictures, None where the expert is not conditioned.
        weights: float64 [N], how often each picture is drawn; they sum to 1.
        validation: Cells of the validation pictures.
        validation_modality: As `modality`, of the validation pictures.
        folder: Holds checkpoint, history and curves.
        seed: Fixes the batches.
        resume: Go on from the checkpoint in `folder`.
        say: Takes lines of progress.

    Returns:
        The history, with the start as epoch 0. `found` is the share of validation cells whose place in the copy has
        the nearest code among all cells of a batch; `entropy` is the mean over bits, over content cells, in bits.

    Raises:
        TrainingError: The checkpoint is of another run, or the loss is not finite.
    """
    expert = network.cells
    device = expert.mean.device
    network.eval().requires_grad_(False)
    expert.requires_grad_(True)
    if recipe.cell_linear_held and expert.direct is not None:
        expert.direct.requires_grad_(False)
    start = None if expert.direct is None else copy.deepcopy(expert.direct).requires_grad_(False)
    total_steps = max(1, recipe.cell_epochs * recipe.cell_steps)

    def batches(epoch: int) -> Iterator[CellBatch]:
        random = np.random.default_rng((seed, 11, epoch + 1))
        for _ in range(recipe.cell_steps):
            rows = random.choice(len(views), min(recipe.cell_images, len(views)), replace=False, p=weights)
            yield draw_batch(views, rows, recipe, random, device)

    def rate(epoch: int, step: int) -> float:
        done = (epoch * recipe.cell_steps + step) / total_steps
        return recipe.cell_rate * min(1.0, (done * total_steps + 1) / 50) * (1 + math.cos(math.pi * done)) / 2

    def restore(content: Content) -> None:
        if start is not None:
            start.load_state_dict(content["held"])

    stage = Stage(
        "cells",
        expert,
        torch.optim.AdamW([p for p in expert.parameters() if p.requires_grad], lr=recipe.cell_rate),
        batches,
        lambda batch: _judged(expert, start, batch, modality, recipe),
        recipe.cell_steps,
        recipe.cell_epochs,
        rate=rate,
        clip=CLIP,
        validate=lambda epoch: _validated(expert, recipe, validation, validation_modality, seed),
        starts_judged=True,
        identity={
            "stage": "cells", "recipe": asdict(recipe), "seed": seed, "views": views.digest,
            "places": list(expert.places),
        },
        state=lambda: {"held": None if start is None else start.state_dict()},
        restore=restore,
        advice="--set cell_rate",
    )  # fmt: skip
    return run_stage(stage, Path(folder), resume=resume, say=say).history


def draw_batch(
    views: CellViews, rows: I64, recipe: CellRecipe, random: np.random.Generator, device: torch.device
) -> CellBatch:
    """Draw content cells of a random window that the copy shows too, at most cell_samples of each picture."""
    first, second, image, places, prints = [], [], [], [], []
    low, high = recipe.cell_sides
    for number, row in enumerate(rows):
        chosen_copy = int(random.integers(views.copies))
        partner = views.partner[chosen_copy][row]
        usable = (views.content[row] & (partner >= 0)).reshape(GRID, GRID)
        if not usable.any():
            continue
        height, width = random.integers(low, high + 1, 2)
        # Around a usable cell, so that no window holds only air.
        y, x = np.argwhere(usable)[random.integers(int(usable.sum()))]
        top = int(np.clip(y - random.integers(height), 0, GRID - height))
        left = int(np.clip(x - random.integers(width), 0, GRID - width))
        inside = np.zeros_like(usable)
        inside[top : top + height, left : left + width] = True
        cells = random.permutation(np.flatnonzero(usable & inside))[: recipe.cell_samples]
        first.append(np.asarray(views.cells[0][row])[cells])
        second.append(np.asarray(views.cells[chosen_copy + 1][row])[partner[cells]])
        image.append(np.full(len(cells), number))
        places.append(np.stack([cells // GRID, cells % GRID], axis=1))
        prints.append(views.prints[row][cells])
    numbers = np.concatenate(image)
    return CellBatch(
        torch.from_numpy(np.concatenate(first)).to(device).float(),
        torch.from_numpy(np.concatenate(second)).to(device).float(),
        torch.from_numpy(numbers).to(device),
        torch.from_numpy(rows[numbers]).to(device),
        torch.from_numpy(np.concatenate(places)).to(device),
        torch.from_numpy(np.concatenate(prints)).to(device).float(),
    )


def bit_entropy(bits: Mask) -> F64:
    """Return the entropy of each bit over cells, in bits, 0 to 1: bits bool [M,L] -> float64 [L]."""
    share = np.clip(bits.mean(axis=0), 1e-12, 1 - 1e-12)
    return -(share * np.log2(share) + (1 - share) * np.log2(1 - share))


def codes_of(expert: CellExpert, cells: Tensor, modality: Tensor | None) -> Tensor:
    """Return the real codes [M,L] of cells [M,C], each with the modality [M,K] of its picture."""
    return expert.encode(cells[:, None, None], modality)[0][:, 0, 0]


def _judged(
    expert: CellExpert, start: torch.nn.Linear | None, batch: CellBatch, modality: F32 | None, recipe: CellRecipe
) -> tuple[Tensor, dict[str, float]]:
    shares = None if modality is None else torch.from_numpy(modality).to(batch.row.device)[batch.row]
    u, v = codes_of(expert, batch.first, shares), codes_of(expert, batch.second, shares)
    a, b = torch.tanh(u), torch.tanh(v)
    settings = (recipe.cell_temperature, recipe.cell_far, recipe.cell_alike)
    parts = {"cells": cell_contrast(a, b, batch.image, batch.place, batch.prints, *settings)}
    total = parts["cells"]
    if recipe.cell_windows:
        numbers, inverse = torch.unique(batch.image, return_inverse=True)
        means = [_mean_by(each, inverse, len(numbers)) for each in (a, b, batch.place.float(), batch.prints)]
        parts["windows"] = cell_contrast(means[0], means[1], numbers, means[2], means[3], *settings)
        total = total + recipe.cell_windows * parts["windows"]
    both = torch.cat([u, v])
    terms = (
        ("balance", recipe.cell_balance, bit_balance),
        ("decorrelation", recipe.cell_decorrelation, bit_covariance),
        ("quantisation", recipe.cell_quantisation, quantisation),
    )
    for name, weight, term in terms:
        if weight:
            parts[name] = term(both)
            total = total + weight * parts[name]
    if recipe.cell_hold and start is not None:
        twice = None if shares is None else torch.cat([shares, shares])
        cells = torch.cat([batch.first, batch.second])[:, None, None]
        before = start(expert.standardise(cells, twice)[:, 0, 0]).detach()
        parts["hold"] = (_similarity(torch.tanh(both)) - _similarity(before)).square().mean()
        total = total + recipe.cell_hold * parts["hold"]
    return total, {name: float(value.detach()) for name, value in parts.items()}


def _mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    summed = torch.zeros(groups, values.shape[1], device=values.device, dtype=values.dtype)
    counts = torch.bincount(group, minlength=groups).clamp(min=1)
    return summed.index_add(0, group, values) / counts[:, None]


def _similarity(u: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(u, dim=1)
    return unit @ unit.T


@torch.no_grad()
def _validated(
    expert: CellExpert, recipe: CellRecipe, views: CellViews, modality: F32 | None, seed: int
) -> dict[str, float]:
    """Return the share of cells that their code finds again in the copy, and the entropies of the bits."""
    random = np.random.default_rng((seed, 13))
    device = expert.mean.device
    right, total = 0, 0
    codes = []
    for _ in range(VALIDATION_BATCHES):
        rows = random.choice(len(views), min(recipe.cell_images, len(views)), replace=False)
        batch = draw_batch(views, rows, recipe, random, device)
        shares = None if modality is None else torch.from_numpy(modality).to(device)[batch.row]
        a = torch.sign(codes_of(expert, batch.first, shares))
        b = torch.sign(codes_of(expert, batch.second, shares))
        right += int((torch.argmax(a @ b.T, dim=1) == torch.arange(len(a), device=device)).sum())
        total += len(a)
        codes.append((a > 0).cpu().numpy())
    entropies = bit_entropy(np.concatenate(codes))
    return {
        "found": right / max(1, total),
        "entropy": float(entropies.mean()),
        "entropy_of_worst_bit": float(entropies.min()),
    }
