"""The linear fits against plain references."""

import numpy as np
import pytest

from medlike.codes.rotation import learned_rotation
from medlike.errors import TrainingError
from medlike.training.rotation import (
    balanced_weights,
    centred_basis,
    discriminant_directions,
    linear_classifier,
    principal_directions,
)


def test_no_source_counts_more_than_the_cap():
    weights = balanced_weights(["big"] * 100 + ["small"] * 5, cap=10)
    assert weights[:100].sum() == pytest.approx(10)
    assert (weights[100:] == 1).all()


def test_principal_directions_are_those_of_the_weighted_covariance():
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 6)) * [5, 4, 3, 2, 1, 0.5]
    weights = random.uniform(0.1, 1, 200)
    directions, variances = principal_directions(rows, weights, 3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    projected = rows @ directions
    covariance = (projected * weights[:, None]).T @ projected / weights.sum()
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-9)
    doubled = np.vstack([rows, rows])
    again, _ = principal_directions(doubled, np.concatenate([weights, weights]), 3)
    np.testing.assert_allclose(again, directions, atol=1e-9)


def test_too_few_directions_are_refused():
    rows = np.random.default_rng(0).normal(size=(5, 20))
    with pytest.raises(TrainingError, match="5 images carry 5 independent directions, 8 are wanted"):
        principal_directions(rows, np.ones(5), 8)


def test_the_rotation_is_one_and_loses_less_than_none():
    random = np.random.default_rng(1)
    turn = np.linalg.qr(random.normal(size=(16, 16)))[0]
    corners = random.choice([-1.0, 1.0], size=(500, 16)) + random.normal(0, 0.1, (500, 16))
    rows = corners @ turn.T
    rotation = learned_rotation(rows, np.ones(500), rounds=100)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(16), atol=1e-10)

    def loss(values):
        unit = values / np.linalg.norm(values, axis=1, keepdims=True)
        return ((unit - np.where(unit >= 0, 0.25, -0.25)) ** 2).sum(axis=1).mean()

    assert loss(rows @ rotation) < 0.7 * loss(rows)


def test_content_that_sums_to_zero_loses_nothing_when_centred():
    basis = centred_basis(20, seed=3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(19), atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-12)


def test_the_classifier_agrees_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(2)
    classes = random.integers(0, 3, 400)
    rows = random.normal(size=(400, 5)) + classes[:, None] * [1, 0.5, 0, -1, 0.2]
    penalty = 1e-3
    table, bias = linear_classifier(rows, classes, np.ones(400), penalty, steps=2000)
    peer = LogisticRegression(C=1 / (2 * penalty * 400), tol=1e-8, max_iter=5000).fit(rows, classes)

    def shares(logits):
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    np.testing.assert_allclose(shares(rows @ table + bias), peer.predict_proba(rows), atol=2e-3)


def test_discriminant_directions_are_those_of_fisher():
    random = np.random.default_rng(3)
    sizes = np.array([9, 100, 36, 64])
    classes = np.repeat(np.arange(4), sizes)
    rows = random.normal(size=(4, 6))[classes] + random.normal(size=(len(classes), 6)) * [3, 1, 1, 2, 1, 0.3]
    directions, mean = discriminant_directions(rows, classes, 5, shrinkage=0.2)
    assert (directions[:, 3:] == 0).all() and (directions[:, :3] != 0).any(axis=0).all()
    weight = np.sqrt(sizes) / np.sqrt(sizes).sum()
    means = np.stack([rows[classes == label].mean(axis=0) for label in range(4)])
    np.testing.assert_allclose(mean, weight @ means)
    within = sum(w * np.cov(rows[classes == label].T, ddof=0) for label, w in enumerate(weight))
    within = 0.8 * within + 0.2 * np.trace(within) / 6 * np.eye(6)
    between = (means - mean).T @ np.diag(weight) @ (means - mean)
    kept = directions[:, :3]
    np.testing.assert_allclose(kept.T @ within @ kept, np.eye(3), atol=1e-6)
    spread = kept.T @ between @ kept
    np.testing.assert_allclose(spread, np.diag(np.diag(spread)), atol=1e-6)
    # No direction separates the classes better than the first.
    tried = random.normal(size=(6, 2000))
    ratio = np.einsum("dn,de,en->n", tried, between, tried) / np.einsum("dn,de,en->n", tried, within, tried)
    assert ratio.max() <= spread[0, 0] * (1 + 1e-6) and spread[0, 0] > spread[2, 2]


def test_a_single_class_has_no_discriminant_direction():
    directions, mean = discriminant_directions(np.ones((5, 3)), np.zeros(5, np.int64), 2)
    assert not directions.any() and mean.tolist() == [1, 1, 1]
    even, _ = discriminant_directions(np.ones((4, 3)), np.array([0, 0, 1, 1]), 2)
    assert np.isfinite(even).all()  # nothing varies
