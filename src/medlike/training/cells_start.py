"""Where the cells' codes start: a learned rotation of the standardised cells, fitted without labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from medlike.models.experts import CellExpert
from medlike.training.cells import CellViews
from medlike.training.rotation import balanced_weights, learned_rotation, principal_directions

F64 = npt.NDArray[np.float64]
PER_IMAGE = 30
ROTATION_ROWS = 40_000


def start_cells(
    expert: CellExpert, channels: Sequence[int], views: CellViews, sources: list[str], whitening: float, seed: int
) -> None:
    """Standardise an expert's cells and set its linear path to their learned rotation (ITQ), in place.

    channels: widths of the maps that make up a cell; each weighs alike. Fitted on content cells of the pictures as
    they are, sources weighted so that none outweighs the others. whitening: how far the principal directions are
    evened out first, 0 to 1.
    """
    random = np.random.default_rng((seed, 31))
    rows, weights = content_sample(views, balanced_weights(sources), random)
    mean = np.average(rows, axis=0, weights=weights)
    deviation = np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=weights))
    deviation = np.maximum(deviation, 1e-3 * deviation.mean() + 1e-9)
    deviation *= np.concatenate([np.full(width, np.sqrt(width * len(channels))) for width in channels])
    standard = (rows - mean) / deviation
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
    given = (torch.from_numpy(each).float().to(expert.mean.device) for each in (mean, deviation, code))
    expert.initialise_from_projection(*given)


def content_sample(views: CellViews, weights: F64, random: np.random.Generator) -> tuple[F64, F64]:
    """Some content cells of every picture, float64 [M,C], and how much each counts."""
    parts, counted = [], []
    for row in range(len(views)):
        cells = np.flatnonzero(views.content[row])
        cells = random.permutation(cells)[:PER_IMAGE]
        parts.append(np.asarray(views.cells[0][row])[cells].astype(np.float64))
        counted.append(np.full(len(cells), weights[row]))
    return np.concatenate(parts), np.concatenate(counted)
