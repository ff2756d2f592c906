"""Where training starts: the linear code of the untouched features, fitted without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from medlike.models.pooling import depth_statistics
from medlike.training.rotation import balanced_weights, learned_rotation, principal_directions


def start_from_pooled(
    network: Any, pooled: npt.NDArray[np.floating[Any]], sources: list[str], whitening: float
) -> None:
    """Fit the linear part of an image network's blended feature to pooled means [N,P] of training pictures.

    Standardises every depth and takes the leading principal directions, evened out by `whitening`. Sources are
    weighted so that none outweighs the others.
    """
    mean, std = depth_statistics(torch.from_numpy(pooled.astype(np.float32)), network.pooling.channels)
    standard = ((pooled - mean.numpy()) / std.numpy()).astype(np.float64)
    weights = balanced_weights(sources)
    directions, variances = principal_directions(standard, weights, network.settings.linear)
    projection = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    spread = np.average(((standard @ projection) ** 2).sum(axis=1), weights=weights)
    network.initialise_linear(mean, std, torch.from_numpy(projection / np.sqrt(spread)).float())


def start_code(
    network: Any, features: npt.NDArray[np.float32], sources: list[str], whitening: float, seed: int
) -> None:
    """Set the linear path of the hash head to learned rotations (ITQ) of the blended features [N,D].

    The preserved bits are a rotation of the linear part, the others one of the learned part; without preserved
    bits all are one of the whole feature. So the code starts as good as the rotations that others stop at, and
    learns from there. whitening: how far the learned part's principal directions are evened out first; a little
    lets bits tell apart images of sources never seen.
    """
    weights = balanced_weights(sources)
    rows = features.astype(np.float64)
    mean = np.average(rows, axis=0, weights=weights)
    kept, learned = network.hash_head.preserved, network.learned_width
    code = np.zeros((features.shape[1], network.bits))
    if kept:
        code[learned:, :kept] = _rotation((rows - mean)[:, learned:], weights, kept, 0.0, seed)
        code[:learned, kept:] = _rotation((rows - mean)[:, :learned], weights, network.bits - kept, whitening, seed)
    else:
        code[:] = _rotation(rows - mean, weights, network.bits, whitening, seed)
    network.hash_head.initialise_from_projection(torch.from_numpy(code).float(), torch.from_numpy(-mean @ code).float())


def _rotation(
    rows: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], bits: int, whitening: float, seed: int
) -> npt.NDArray[np.float64]:
    """A map [D,bits] to bits of unit mean magnitude: rotations side by side where there are more bits than D."""
    if not bits:
        return np.zeros((rows.shape[1], 0))
    width = min(bits, rows.shape[1])
    directions, variances = principal_directions(rows, weights, width)
    directions = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    turns = [learned_rotation(rows @ directions, weights, seed=seed + block) for block in range(-(-bits // width))]
    code = directions @ np.concatenate(turns, axis=1)[:, :bits]
    return code / np.abs(rows @ code).mean()
