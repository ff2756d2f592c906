"""Where training starts: the linear code of the untouched features, fitted without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medlike.models.pooling import depth_statistics
from medlike.training.rotation import balanced_weights, learned_rotation, principal_directions


def start_from_pooled(
    network: Any, pooled: npt.NDArray[np.floating[Any]], sources: list[str], whitening: float, seed: int
) -> None:
    """Fit the linear path of an image network to pooled means [N,P] of training pictures.

    Standardises every depth, takes the leading principal directions evened out by `whitening`, and sets the
    code to a learned rotation of them, so that before any training the network is the untrained floor, better
    conditioned. Sources are weighted so that none outweighs the others.
    """
    mean, std = depth_statistics(torch.from_numpy(pooled.astype(np.float32)), network.pooling.channels)
    standard = ((pooled - mean.numpy()) / std.numpy()).astype(np.float64)
    weights = balanced_weights(sources)
    width, bits = network.settings.linear, network.bits
    directions, variances = principal_directions(standard, weights, width)
    projection = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    projected = standard @ projection
    scale = 1 / np.sqrt(np.average((projected**2).sum(axis=1), weights=weights))
    projection, projected = projection * scale, projected * scale
    code = _rotation(projected, bits, weights, seed)
    code = code / np.abs(projected @ code).mean()
    network.initialise_from_projection(
        mean, std, torch.from_numpy(projection).float(), torch.from_numpy(code).float()
    )


def _rotation(
    projected: npt.NDArray[np.float64], bits: int, weights: npt.NDArray[np.float64], seed: int
) -> npt.NDArray[np.float64]:
    """[width, bits]: rotations side by side where there are more bits than directions."""
    blocks, left, block = [], bits, 0
    while left:
        count = min(left, projected.shape[1])
        turned = np.zeros((projected.shape[1], count))
        turned[:count] = learned_rotation(projected[:, :count], weights, seed=seed + block)
        blocks.append(turned)
        left, block = left - count, block + 1
    return np.concatenate(blocks, axis=1)
