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
    """Set the linear path of the hash head to a learned rotation of blended features [N,D] (ITQ).

    The code starts as good as the rotation that others stop at, and learns from there. whitening: how far the
    principal directions are evened out first; a little lets bits tell apart images of sources never seen.
    """
    weights = balanced_weights(sources)
    rows = features.astype(np.float64)
    mean = np.average(rows, axis=0, weights=weights)
    width = min(network.bits, features.shape[1])
    directions, variances = principal_directions(rows - mean, weights, width)
    directions = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    projected = (rows - mean) @ directions
    turns = [learned_rotation(projected, weights, seed=seed + block) for block in range(-(-network.bits // width))]
    code = directions @ np.concatenate(turns, axis=1)[:, : network.bits]
    code = code / np.abs((rows - mean) @ code).mean()
    network.hash_head.initialise_from_projection(torch.from_numpy(code).float(), torch.from_numpy(-mean @ code).float())
