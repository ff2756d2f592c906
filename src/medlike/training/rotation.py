"""Principal and discriminant directions, the learned rotation to bits, and a linear classifier.

Rows are images, weights say how much each counts; none of it looks at labels but discriminant and classifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medlike.codes.rotation import leading_directions
from medlike.errors import TrainingError
from medlike.types import F64, I64


def balanced_weights(sources: Sequence[str], cap: int = 750) -> F64:
    """Return weights, float64 [N], min(1, cap / images of the source): no source counts more than `cap` images."""
    counts = Counter(sources)
    return np.array([min(1.0, cap / counts[source]) for source in sources])


def principal_directions(rows: F64, weights: F64, count: int) -> tuple[F64, F64]:
    """Return the directions of most weighted variance, [D, count] orthonormal columns, and their variances [count].

    rows: float64 [N, D], taken as centred. Signs are fixed (largest entry positive), so that refitting on the
    same rows gives the same directions. TrainingError where fewer than `count` directions carry variance.
    """
    directions, variances = leading_directions(rows, weights, count)
    if len(variances) < count:
        raise TrainingError(
            f"{len(rows)} images carry {len(variances)} independent directions, {count} are wanted: "
            "give more images or ask for fewer bits"
        )
    return directions, variances


def discriminant_directions(
    rows: F64, classes: I64, count: int, shrinkage: float = 0.1, power: float = 0.5
) -> tuple[F64, F64]:
    """Return the directions [D, count] along which classes differ most for their spread, and the mean [D] to take off.

    Fisher's linear discriminant analysis of rows float64 [N, D]. The spread within classes is drawn to an even one by
    `shrinkage`. power: a class counts by its images to this power. Columns beyond the number of classes less one are
    zero.
    """
    from scipy.linalg import eigh

    directions = np.zeros((rows.shape[1], count))
    _, class_of_row, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        return directions, rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
    means = np.stack([rows[class_of_row == label].mean(axis=0) for label in range(len(sizes))])
    weight = sizes**power / (sizes**power).sum()
    mean = weight @ means
    away = (rows - means[class_of_row]) * np.sqrt(weight / sizes)[class_of_row, None]
    within = away.T @ away
    even = max(float(np.trace(within)) / len(within), 1e-12)
    within = (1 - shrinkage) * within + (shrinkage + 1e-9) * even * np.eye(len(within))
    between = ((means - mean) * weight[:, None]).T @ (means - mean)
    leading = eigh(between, within)[1][:, ::-1][:, : min(count, len(sizes) - 1)]
    leading = leading * np.sign(leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])])
    directions[:, : leading.shape[1]] = leading
    return directions, mean


def centred_basis(count: int, seed: int = 0) -> F64:
    """Return an isometry [count, count - 1] onto the vectors that sum to zero, randomly turned.

    A content vector is centred before it is stored; one that sums to zero already loses nothing by that, and
    a random turn spreads its length over all entries, which int8 then holds better.
    """
    random = np.random.default_rng(seed).normal(size=(count, count - 1))
    return np.linalg.qr(random - random.mean(axis=0))[0]


def linear_classifier(
    rows: F64, classes: I64, weights: F64, penalty: float = 1e-3, steps: int = 300
) -> tuple[F64, F64]:
    """Fit a multinomial logistic regression: weights [D, M] and biases [M]. classes: int64 [N], 0 to M - 1."""
    from scipy.optimize import minimize

    size, count = rows.shape[1], int(classes.max()) + 1
    target = np.eye(count)[classes]
    share = weights / weights.sum()

    def loss(flat: F64) -> tuple[float, F64]:
        table = flat.reshape(size + 1, count)
        logits = rows @ table[:-1] + table[-1]
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        value = -(share[:, None] * target * (logits - log_total)).sum() + penalty * (table[:-1] ** 2).sum()
        away = share[:, None] * (np.exp(logits - log_total) - target)
        gradient = np.vstack([rows.T @ away + 2 * penalty * table[:-1], away.sum(axis=0)])
        return float(value), gradient.ravel()

    start = np.zeros((size + 1) * count)
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    table = solution.x.reshape(size + 1, count)
    return table[:-1], table[-1]
