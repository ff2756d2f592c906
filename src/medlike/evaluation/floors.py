"""Baselines that need no gradient: what any trained code has to beat.

Each `fit_*` takes training features and gives a function from features float [N, D] to codes or features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medlike.errors import QueryError

Transform = Callable[[np.ndarray], np.ndarray]


def fit_itq(
    features: np.ndarray, bits: int, iterations: int = 50, seed: int = 0, sources: Sequence[str] | None = None
) -> Transform:
    """Fit iterative quantisation: PCA to `bits` dimensions, then the rotation nearest to its own signs.

    Features are centred and not standardised, so that their own weighting of dimensions stays, as published.

    Source: Gong and Lazebnik, CVPR 2011.

    Args:
        features: float [N, D] of the training images.
        bits: Length of the code, a multiple of 8.
        iterations: Steps of the rotation.
        seed: Of the first rotation.
        sources: Source of each row, so that no source outweighs the others, as the shipped bundles are fitted.

    Returns:
        A function from features to packed codes uint8 [N, bits / 8].

    Raises:
        QueryError: `bits` is no multiple of 8, or above min(N, D).
    """
    from medlike.codes.rotation import learned_rotation
    from medlike.training.rotation import balanced_weights, principal_directions

    _check_bits(bits)
    if bits > min(features.shape):
        raise QueryError(
            f"ITQ to {bits} bits needs as many dimensions and images; there are {features.shape[1]} and "
            f"{features.shape[0]}"
        )
    weights = np.ones(len(features)) if sources is None else balanced_weights(sources)
    mean = np.average(features.astype(np.float64), axis=0, weights=weights)
    rows = features - mean
    directions, _ = principal_directions(rows, weights, bits)
    projection = directions @ learned_rotation(rows @ directions, weights, iterations, seed)
    return lambda f: _pack((f - mean) @ projection)


def fit_random_projection(features: np.ndarray, bits: int, seed: int = 0) -> Transform:
    """Fit random projections: the signs of projections of centred features.

    Source: Charikar, STOC 2002.

    Args:
        features: float [N, D] of the training images.
        bits: Length of the code, a multiple of 8.
        seed: Of the projections.

    Returns:
        A function from features to packed codes uint8 [N, bits / 8].

    Raises:
        QueryError: `bits` is no multiple of 8.
    """
    _check_bits(bits)
    mean = features.mean(axis=0, dtype=np.float64)
    projection = np.random.default_rng(seed).standard_normal((features.shape[1], bits))
    return lambda f: _pack((f - mean) @ projection)


def fit_discriminant(features: np.ndarray, labels: np.ndarray, shrinkage: float = 0.1) -> Transform:
    """Fit a linear discriminant: at most classes - 1 float dimensions in which classes are apart.

    Source: Fisher, Annals of Eugenics, 1936.

    Args:
        features: float [N, D] of the training images.
        labels: Label of each, [N].
        shrinkage: How far the within-class covariance is shrunk towards a multiple of the identity, 0..1.

    Returns:
        A function from features to discriminant features.

    Raises:
        QueryError: There are fewer than two classes.
    """
    from medlike.training.rotation import discriminant_directions

    names, of_class = np.unique(np.asarray(labels), return_inverse=True)
    if len(names) < 2:
        raise QueryError(f"a discriminant needs two classes; the training images have {len(names)}")
    standard = _standardiser(features)
    count = min(len(names) - 1, features.shape[1])
    projection, _ = discriminant_directions(standard(features), of_class, count, shrinkage, power=1.0)
    return lambda f: standard(f) @ projection


def fingerprint_features(fingerprints: np.ndarray) -> np.ndarray:
    """Return fingerprints as features whose cosine is Pearson's correlation: uint8 [N, 16, 16] to float32 [N, 256].

    A flat image has no direction; it gets one of its own so that it is like nothing.
    """
    flat = fingerprints.reshape(len(fingerprints), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat[(flat == 0).all(axis=1), 0] = 1.0
    return flat


def hash_codes(hashes: np.ndarray) -> np.ndarray:
    """Return perceptual hashes as packed codes: uint64 [N] to uint8 [N, 8], most significant bit first."""
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
