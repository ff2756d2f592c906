import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve as sklearn_curve

from medlike.errors import QueryError
from medlike.metrics import (
    Relevance,
    TieCounts,
    graded_ndcg,
    hamming_counts,
    precision_recall_curve,
    recall_gain,
    within_radius,
)


def example(seed=0):
    rng = np.random.default_rng(seed)
    q, g = rng.integers(0, 256, (12, 2), dtype=np.uint8), rng.integers(0, 256, (60, 2), dtype=np.uint8)
    wanted, labels = rng.integers(0, 4, 12), rng.integers(0, 3, 60)
    distances = np.unpackbits(q[:, None, :] ^ g[None, :, :], axis=2).sum(axis=2)
    return hamming_counts(q, g, Relevance.of(wanted, labels)), distances, labels[None, :] == wanted[:, None]


def test_precision_and_recall_within_a_radius_count_what_is_there():
    counts, distances, relevant = example()
    precision, recall, found = within_radius(counts, 8)
    for q in range(len(distances)):
        for r in range(9):
            inside = distances[q] <= r
            assert found[q, r] == inside.sum()
            if not relevant[q].any():
                assert np.isnan(precision[q, r]) and np.isnan(recall[q, r])
                continue
            assert precision[q, r] == (relevant[q][inside].mean() if inside.any() else 0)
            assert recall[q, r] == pytest.approx(relevant[q][inside].sum() / relevant[q].sum())
    with pytest.raises(QueryError, match="radius"):
        within_radius(counts, 17)


def test_the_precision_recall_curve_is_the_envelope_of_scikit_learns():
    counts, distances, relevant = example(1)
    curve = precision_recall_curve(counts, 11)
    for q in range(len(distances)):
        if not relevant[q].any():
            assert np.isnan(curve[q]).all()
            continue
        precision, recall, _ = sklearn_curve(relevant[q], -distances[q])
        # The last point of scikit-learn (recall 0, precision 1) is a convention, not a threshold.
        precision, recall = precision[:-1], recall[:-1]
        reference = [precision[recall >= level - 1e-9].max() for level in np.linspace(0, 1, 11)]
        np.testing.assert_allclose(curve[q], reference)


def test_recall_gain_is_flat_for_one_code_a_class_and_rises_for_spread_codes():
    one_code = np.array([[1.0, 1.0, 1.0], [0.9, 0.9, 0.9], [np.nan] * 3])
    np.testing.assert_allclose(recall_gain(one_code), 0, atol=1e-12)
    np.testing.assert_allclose(recall_gain(np.array([[0.1, 0.3, 0.6]])), [0, 0.2, 0.5])


def test_graded_gain_with_ties_is_the_mean_over_orders():
    from itertools import permutations

    gains = [3.0, 0.0, 1.0, 2.0]
    items, sums = np.array([[1, 3]]), np.array([[3.0, 3.0]])
    discounts = 1 / np.log2(np.arange(2, 6))
    every = [gains[0] * discounts[0] + np.dot(p, discounts[1:]) for p in permutations(gains[1:])]
    ideal = np.dot(sorted(gains, reverse=True), discounts)
    assert graded_ndcg(items, sums, np.array([gains]))[0] == pytest.approx(np.mean(every) / ideal)
    cut = [gains[0] * discounts[0] + p[0] * discounts[1] for p in permutations(gains[1:])]
    best = 3 * discounts[0] + 2 * discounts[1]
    assert graded_ndcg(items, sums, np.array([gains]), 2)[0] == pytest.approx(np.mean(cut) / best)


def test_empty_galleries_give_nan_and_no_warning():
    counts = TieCounts(np.zeros((2, 5), int), np.zeros((2, 5), int))
    precision, _, _ = within_radius(counts, 1)
    assert np.isnan(precision).all() and np.isnan(precision_recall_curve(counts)).all()
