"""Where the cells' codes start: a learned rotation of the standardised cells, fitted without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from medlike.codes.rotation import learned_rotation
from medlike.models.experts import CellExpert
from medlike.training.cells import CellViews
from medlike.training.rotation import balanced_weights, principal_directions
from medlike.types import F32, F64, I64

PER_IMAGE = 30
ROTATION_ROWS = 40_000
# The common mean counts like so many images in the mean of a modality, which is uncertain where images are few.
PRIOR_IMAGES = 20


def start_cells(
    expert: CellExpert,
    channels: Sequence[int],
    views: CellViews,
    modality: F32 | None,
    sources: list[str],
    whitening: float,
    seed: int,
) -> None:
    """Standardise an expert's cells and set its linear path to their learned rotation (ITQ), in place.

    channels: widths of the maps that make up a cell; each weighs alike. modality: float32 [N,M], the predicted shares
    of the pictures, whose means are taken off, so that bits tell apart what lies within images of a modality; None
    where the expert is not conditioned. Fitted on content cells of the pictures as they are, sources weighted so that
    none outweighs the others. whitening: how far the principal directions are evened out first, 0 to 1.
    """
    random = np.random.default_rng((seed, 31))
    rows, weights, pictures = content_sample(views, balanced_weights(sources), random)
    mean = np.average(rows, axis=0, weights=weights)
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    deviation = np.maximum(deviation, 1e-3 * deviation.mean() + 1e-9)
    deviation *= np.concatenate([np.full(width, np.sqrt(width * len(channels))) for width in channels])
    standard = (rows - mean) / deviation
    means = None
    if modality is not None:
        means = modality_means(standard, weights, pictures, modality)
        standard -= modality[pictures] @ means
    width = min(expert.bits, rows.shape[1])
    directions, variances = principal_directions(standard, weights, width)
    directions = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    chosen = random.permutation(len(standard))[:ROTATION_ROWS]
    blocks = [
        learned_rotation(standard[chosen] @ directions, weights[chosen], seed=seed + block)
        for block in range(-(-expert.bits // width))
    ]
    code = directions @ np.concatenate(blocks, axis=1)[:, : expert.bits]
    code /= np.abs(standard[chosen] @ code).mean()
    device = expert.mean.device
    fitted = [torch.from_numpy(each).float().to(device) for each in (mean, deviation, code)]
    means_of_modalities = None if means is None else torch.from_numpy(means).float().to(device)
    expert.initialise_from_projection(fitted[0], fitted[1], fitted[2], modality_mean=means_of_modalities)


def modality_means(cells: F64, weights: F64, pictures: I64, modality: F32) -> F64:
    """Return the mean cell of each modality, float64 [M,C], drawn towards zero where pictures are few.

    cells: float64 [n,C], of mean zero; weights: [n]; pictures: int64 [n], which picture each is of; modality:
    float32 [N,M], shares of the pictures.
    """
    shares = weights[:, None] * modality[pictures]
    means = shares.T @ cells / np.maximum(shares.sum(axis=0), 1e-12)[:, None]
    seen = modality[np.unique(pictures)].sum(axis=0, dtype=np.float64)
    return np.asarray(means * (seen / (seen + PRIOR_IMAGES))[:, None])


def content_sample(views: CellViews, weights: F64, random: np.random.Generator) -> tuple[F64, F64, I64]:
    """Draw content cells of every picture, float64 [M,C], with the weight and the picture of each."""
    parts, counted, pictures = [], [], []
    for row in range(len(views)):
        cells = np.flatnonzero(views.content[row])
        cells = random.permutation(cells)[:PER_IMAGE]
        parts.append(np.asarray(views.cells[0][row])[cells].astype(np.float64))
        counted.append(np.full(len(cells), weights[row]))
        pictures.append(np.full(len(cells), row))
    return np.concatenate(parts), np.concatenate(counted), np.concatenate(pictures)
