"""Principal directions and the learned rotation to bits. Rows are images, weights say how much each counts."""

from __future__ import annotations

import numpy as np

from medlike.types import F64


def unit_rows(rows: F64) -> F64:
    """Return rows [N, D] scaled to unit length; a row of zeros stays zero."""
    unit: F64 = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def leading_directions(rows: F64, weights: F64, most: int) -> tuple[F64, F64]:
    """Return the directions of most weighted variance, as many as carry any.

    Signs are fixed (largest entry positive), so that fitting the same rows again gives the same directions.

    Args:
        rows: float64 [N, D], taken as centred.
        weights: float64 [N], positive.
        most: The largest number of directions.

    Returns:
        Orthonormal columns float64 [D, count] and their variances [count], descending.
    """
    return directions_of((rows * weights[:, None]).T @ rows / weights.sum(), most)


def directions_of(covariance: F64, most: int) -> tuple[F64, F64]:
    """Return what `leading_directions` does, of rows whose covariance [D, D] is known."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    count = min(most, int((values > 1e-10 * values[0]).sum()))
    vectors = vectors[:, :count]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)])
    return vectors * signs, values[:count]


def learned_rotation(rows: F64, weights: F64, rounds: int = 50, seed: int = 0) -> F64:
    """Return the rotation [K, K] after which signs lose least: iterative quantisation (Gong and Lazebnik 2011).

    rows: float64 [N, K], centred. Each row is normalised first, since a code sees directions and not lengths.
    """
    unit = unit_rows(rows)
    size = rows.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    for _ in range(rounds):
        signs = np.where(unit @ rotation >= 0, 1.0, -1.0)
        left, _, right = np.linalg.svd((unit * weights[:, None]).T @ signs)
        rotation = left @ right
    return rotation
