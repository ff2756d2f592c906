"""Linear maps that bring two kinds of embedding together: regularised canonical correlation, and signs of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medlike.errors import TrainingError
from medlike.types import F64


@dataclass(frozen=True)
class Correlation:
    """means [D] and [S], and maps [D, r] and [S, r] into the common space, strongest direction first.

    Directions are scaled by a power of their correlation, so weak ones count little. strengths: correlations [r].
    """

    first_mean: F64
    second_mean: F64
    first: F64
    second: F64
    strengths: F64


def canonical_correlation(
    first: npt.NDArray, second: npt.NDArray, directions: int, penalty: float = 10.0, power: float = 2.0
) -> Correlation:
    """Return the regularised canonical correlation of paired rows, float [N, D] and [N, S].

    penalty: added to the diagonal of both scatter matrices, in units of rows of length 1 per 1,000 pairs. power: of
    the correlation by which a direction is scaled (Chapelle et al. 2003; Gong et al., IJCV 2014, with ITQ). At most
    as many directions as the narrower side has. TrainingError for fewer than two pairs.
    """
    if len(first) != len(second) or len(first) < 2:
        raise TrainingError(f"{len(first)} and {len(second)} rows cannot be correlated; give two pairs or more")
    means = first.mean(axis=0, dtype=np.float64), second.mean(axis=0, dtype=np.float64)
    a, b = first - means[0], second - means[1]
    ridge = penalty * len(a) / 1000
    left, right = _root(a, ridge), _root(b, ridge)
    mixed = np.linalg.solve(left, a.T @ b)
    mixed = np.linalg.solve(right, mixed.T).T
    u, strengths, v = np.linalg.svd(mixed, full_matrices=False)
    count = min(directions, len(strengths))
    scale = strengths[:count] ** power
    return Correlation(
        *means,
        np.linalg.solve(left.T, u[:, :count]) * scale,
        np.linalg.solve(right.T, v[:count].T) * scale,
        strengths[:count],
    )


def sign_frame(rows: npt.NDArray, bits: int, iterations: int = 60, seed: int = 0) -> F64:
    """Return a map [r, bits] whose signs keep directions (iterative quantisation, also for bits > r).

    rows: float [N, r]. Alternates between signs of the rows and the map nearest to them with orthonormal rows (or
    columns). Source: Gong and Lazebnik, CVPR 2011; for bits > r the map is a tight frame (ours).
    """
    random = np.random.default_rng(seed)
    width = rows.shape[1]
    size = max(bits, width)
    frame = np.linalg.qr(random.standard_normal((size, size)))[0][:width, :bits]
    for _ in range(iterations):
        signs = np.where(rows @ frame > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(rows.T @ signs, full_matrices=False)
        frame = left @ right
    return np.asarray(frame)


def _root(rows: F64, ridge: float) -> F64:
    """Return the lower root of the scatter matrix with a ridge."""
    return np.asarray(np.linalg.cholesky(rows.T @ rows + ridge * np.eye(rows.shape[1])), np.float64)
