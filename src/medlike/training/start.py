"""Where training starts: the linear code of the untouched features, fitted without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.vq import kmeans2, vq

from medlike.codes.rotation import leading_directions, learned_rotation, unit_rows
from medlike.models.acir import ImageNetwork
from medlike.models.pooling import depth_statistics
from medlike.models.typicality import Typicality
from medlike.training.rotation import (
    balanced_weights,
    discriminant_directions,
    principal_directions,
)
from medlike.types import F32, F64, I64

# Typicality: pictures a centre at least, rounds of k-means, how far the covariance is drawn to an even one, the share
# of training pictures nearer than the middle, and the width in deviations of their distances.
PICTURES_A_CENTRE, ROUNDS, SHRINKAGE, TYPICAL, WIDTH = 8, 30, 0.1, 0.97, 2 / 3

# Length of the learned part beside the linear one of unit length where bits of typical images start.
CODE_SHARE = 6.0


def start_from_pooled(
    network: ImageNetwork,
    pooled: npt.NDArray[np.floating],
    sources: list[str],
    labels: I64,
    whitening: float,
) -> None:
    """Fit the linear part of an image network's blended feature to pooled means [N,P] of training pictures.

    Standardises every depth and takes the leading principal directions, evened out by `whitening`; typicality and
    discriminant directions, where the network has them, are fitted to what comes out. labels: int64 [N], below 0
    where unknown; only the discriminant directions look at them. Sources are weighted so that none outweighs the
    others.
    """
    mean, std = depth_statistics(torch.from_numpy(pooled.astype(np.float32)), network.pooling.channels)
    standard = ((pooled - mean.numpy()) / std.numpy()).astype(np.float64)
    weights = balanced_weights(sources)
    directions, variances = principal_directions(standard, weights, network.settings.linear)
    projection = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    spread = np.average(((standard @ projection) ** 2).sum(axis=1), weights=weights)
    network.initialise_linear(mean, std, torch.from_numpy(projection / np.sqrt(spread)).float())
    rows = unit_rows(standard @ projection)
    if network.typicality is not None:
        fit_typicality(network.typicality, rows, weights)
    if network.discriminant is not None:
        known = labels >= 0
        telling, centre = discriminant_directions(rows[known], labels[known], network.settings.discriminant)
        with torch.no_grad():
            network.discriminant.weight.copy_(torch.from_numpy(telling.T))
            network.discriminant.bias.copy_(torch.from_numpy(-centre @ telling))


def fit_typicality(typicality: Typicality, rows: F64, weights: F64) -> None:
    """Fit centres (k-means) and the covariance around them to unit rows [N,D] of training pictures.

    The middle is the distance that TYPICAL of the pictures stay below, the width WIDTH deviations of the distances.
    Few pictures get fewer centres, repeated.
    """
    random = np.random.default_rng(0)
    even = rows[weights >= random.random(len(rows))]
    centre_count = len(typicality.centres)
    count = max(1, min(centre_count, len(even) // PICTURES_A_CENTRE))
    centres, _ = kmeans2(even, count, iter=ROUNDS, minit="++", missing="warn", seed=random)
    around = rows - centres[vq(rows, centres)[0]]
    covariance = (around * weights[:, None]).T @ around / weights.sum()
    even_spread = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    variances, directions = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * even_spread)
    whitening = directions * np.maximum(variances, 1e-12) ** -0.5
    with torch.no_grad():
        typicality.whitening.copy_(torch.from_numpy(whitening))
        typicality.centres.copy_(torch.from_numpy((centres @ whitening)[np.arange(centre_count) % count]))
        distances = typicality.distance(torch.from_numpy(rows).float())
        typicality.middle.copy_(distances.quantile(TYPICAL))
        typicality.width.copy_((WIDTH * distances.std()).clamp(min=1e-6))


def start_code(network: ImageNetwork, parts: F32, sources: list[str], whitening: float, seed: int) -> None:
    """Set the linear path of the hash head to learned rotations of what it reads, `code_parts` [N,code_width].

    So the code starts as good as the rotations that others stop at, and learns from there. Bits of typical images are
    a rotation (ITQ) of the learned and the linear part together; those of untypical ones are principal directions of
    the linear part alone, turned to agree with the first as far as turning can, so that distances between a typical
    and an untypical image still mean something. Without typicality: one rotation of the blended feature.
    whitening: how far the principal directions of the first are evened out; a little lets bits tell apart images of
    sources never seen.
    """
    weights = balanced_weights(sources)
    rows = parts.astype(np.float64)
    if network.typicality is None:
        mean = np.average(rows, axis=0, weights=weights)
        code = _rotation(rows - mean, weights, network.bits, whitening, seed)
        offset = -mean @ code
    else:
        learned, share = network.learned_width, float(network.share)
        linear = rows[:, learned : network.feature_width]
        blended = np.concatenate([CODE_SHARE * unit_rows(rows[:, :learned]), linear], axis=1)
        mean, other_mean = (np.average(side, axis=0, weights=weights) for side in (blended, linear))
        typical = _rotation(blended - mean, weights, network.bits, whitening, seed)
        other = _agreeing(linear - other_mean, weights, (blended - mean) @ typical)
        # t (blended - mean) @ typical + (1 - t) (linear - other mean) @ other, by the columns of code_parts.
        offset = -other_mean @ other
        code = np.concatenate(
            [
                typical[:learned] * (CODE_SHARE / share if share else 0.0),
                other,
                typical[learned:] - other,
                (-mean @ typical - offset)[None],
            ]
        )
    network.hash_head.initialise_from_projection(torch.from_numpy(code).float(), torch.from_numpy(offset).float())


def _rotation(rows: F64, weights: F64, bits: int, whitening: float, seed: int) -> F64:
    """Return a map [D,bits] to bits of unit mean magnitude: rotations of leading directions that carry variance.

    Side by side where there are more bits than those.
    """
    directions, variances = leading_directions(rows, weights, bits)
    directions = directions * np.maximum(variances, 1e-12) ** (-whitening / 2)
    blocks = -(-bits // len(variances))
    turns = [learned_rotation(rows @ directions, weights, seed=seed + block) for block in range(blocks)]
    code = directions @ np.concatenate(turns, axis=1)[:, :bits]
    return code / np.abs(rows @ code).mean()


def _agreeing(rows: F64, weights: F64, code: F64) -> F64:
    """Return a map [D,bits] to bits of unit mean magnitude that agree with the signs of `code` [N,bits].

    Leading principal directions, turned (orthogonal Procrustes); side by side where there are more bits than
    directions that carry variance.
    """
    bits = code.shape[1]
    directions, variances = leading_directions(rows, weights, bits)
    width = len(variances)
    placed, signs = unit_rows(rows @ directions) * weights[:, None], np.where(code >= 0, 1.0, -1.0)
    turns = []
    for start in range(0, bits, width):
        left, _, right = np.linalg.svd(placed.T @ signs[:, start : start + width], full_matrices=False)
        turns.append(left @ right)
    code_map = directions @ np.concatenate(turns, axis=1)
    return code_map / np.abs(rows @ code_map).mean()
