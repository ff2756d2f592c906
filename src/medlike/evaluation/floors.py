"""Baselines that need no gradient: what any trained code has to beat.

Each `fit_*` takes training features and gives a function from features float [N, D] to codes or features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medlike.errors import QueryError

Transform = Callable[[np.ndarray], np.ndarray]


def fit_itq(features: np.ndarray, bits: int, iterations: int = 50, seed: int = 0) -> Transform:
    """Iterative quantisation: PCA to `bits` dimensions, then the rotation nearest to its own signs.

    features: float [N, D], standardised per dimension here. Gives packed codes uint8 [N, bits / 8].
    Source: Gong and Lazebnik, CVPR 2011. Raises QueryError where bits > min(N, D).
    """
    _check_bits(bits)
    standard = _standardiser(features)
    x = standard(features)
    if bits > min(x.shape):
        raise QueryError(
            f"ITQ to {bits} bits needs as many dimensions and images; there are {x.shape[1]} and {x.shape[0]}"
        )
    covariance = x.T @ x / len(x)
    _, vectors = np.linalg.eigh(covariance)
    basis = vectors[:, ::-1][:, :bits]
    v = x @ basis
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))
    for _ in range(iterations):
        b = np.where(v @ rotation > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(b.T @ v)
        rotation = right.T @ left.T
    projection = basis @ rotation
    return lambda f: _pack(standard(f) @ projection)


def fit_balanced_itq(features: np.ndarray, sources: Sequence[str], bits: int, seed: int = 0) -> Transform:
    """Iterative quantisation as the shipped untrained bundle is fitted: no source outweighs the others.

    features: float [N, D], centred here and not standardised, so that their own weighting of dimensions stays.
    sources: of each row. Gives packed codes uint8 [N, bits / 8]; TrainingError where the rows carry fewer directions.
    """
    from medlike.training.rotation import balanced_weights, learned_rotation, principal_directions

    _check_bits(bits)
    weights = balanced_weights(sources)
    mean = np.average(features.astype(np.float64), axis=0, weights=weights)
    rows = features - mean
    directions, _ = principal_directions(rows, weights, bits)
    projection = directions @ learned_rotation(rows @ directions, weights, seed=seed)
    return lambda f: _pack((f - mean) @ projection)


def fit_random_projection(features: np.ndarray, bits: int, seed: int = 0) -> Transform:
    """Signs of random projections of standardised features (Charikar 2002): uint8 [N, bits / 8]."""
    _check_bits(bits)
    standard = _standardiser(features)
    projection = np.random.default_rng(seed).standard_normal((features.shape[1], bits))
    return lambda f: _pack(standard(f) @ projection)


def fit_discriminant(features: np.ndarray, labels: np.ndarray, shrinkage: float = 0.1) -> Transform:
    """Linear discriminant: at most classes - 1 float dimensions in which classes are apart.

    features: float [N, D]; labels [N]. The within-class covariance is shrunk towards a multiple of the
    identity. Raises QueryError for fewer than two classes.
    """
    names, of_class = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) < 2:
        raise QueryError(f"a discriminant needs two classes; the training images have {len(names)}")
    standard = _standardiser(features)
    x = standard(features)
    counts = np.bincount(of_class).astype(np.float64)
    means = np.zeros((len(names), x.shape[1]))
    np.add.at(means, of_class, x)
    means /= counts[:, None]
    away = x - means[of_class]
    within = away.T @ away / max(len(x) - len(names), 1)
    size = len(within)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
    values, vectors = np.linalg.eigh(within)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-12))
    between = (means - x.mean(axis=0)) @ whitening * np.sqrt(counts / len(x))[:, None]
    _, _, directions = np.linalg.svd(between, full_matrices=False)
    projection = whitening @ directions[: min(len(names) - 1, size)].T
    return lambda f: standard(f) @ projection


def fingerprint_features(fingerprints: np.ndarray) -> np.ndarray:
    """Fingerprints as features whose cosine is Pearson's correlation: uint8 [N, 16, 16] to float32 [N, 256].

    A flat image has no direction; it gets one of its own so that it is like nothing.
    """
    flat = fingerprints.reshape(len(fingerprints), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat[(flat == 0).all(axis=1), 0] = 1.0
    return flat


def hash_codes(hashes: np.ndarray) -> np.ndarray:
    """Perceptual hashes as packed codes: uint64 [N] to uint8 [N, 8], most significant bit first."""
    return np.ascontiguousarray(hashes, dtype=">u8").view(np.uint8).reshape(-1, 8)


def _standardiser(features: np.ndarray) -> Transform:
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 1e-8, spread, 1.0)
    return lambda f: (f - mean) / spread


def _pack(values: np.ndarray) -> np.ndarray:
    return np.packbits(values > 0, axis=1)


def _check_bits(bits: int) -> None:
    if bits < 8 or bits % 8:
        raise QueryError(f"{bits} bits: give a multiple of 8")
