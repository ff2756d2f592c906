"""Tie groups against naive counts, exclusions and every form of relevance."""

import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.metrics import (
    Relevance,
    average_precision,
    hamming_counts,
    score_codes,
    score_counts,
    score_features,
)


def naive_counts(query_codes, codes, wanted, labels):
    bits = query_codes.shape[1] * 8
    items = np.zeros((len(query_codes), bits + 1), int)
    relevant = np.zeros_like(items)
    for q, code in enumerate(query_codes):
        for row, other in enumerate(codes):
            d = int(np.unpackbits(code ^ other).sum())
            items[q, d] += 1
            relevant[q, d] += wanted[q] == labels[row]
    return items, relevant


@pytest.mark.parametrize("width", [1, 2, 3, 8, 9, 16])
def test_hamming_counts_equal_naive_ones(width):
    rng = np.random.default_rng(width)
    q, g = rng.integers(0, 256, (7, width), dtype=np.uint8), rng.integers(0, 256, (40, width), dtype=np.uint8)
    wanted, labels = rng.integers(0, 3, 7), rng.integers(0, 3, 40)
    counts = hamming_counts(q, g, Relevance.of(wanted, labels))
    items, relevant = naive_counts(q, g, wanted, labels)
    np.testing.assert_array_equal(counts.items, items)
    np.testing.assert_array_equal(counts.relevant, relevant)


def test_batches_of_queries_do_not_change_the_counts(monkeypatch):
    rng = np.random.default_rng(5)
    q, g = rng.integers(0, 256, (9, 2), dtype=np.uint8), rng.integers(0, 256, (50, 2), dtype=np.uint8)
    relevance = Relevance.of(rng.integers(0, 3, 9), rng.integers(0, 3, 50))
    whole = hamming_counts(q, g, relevance)
    features = score_features(q.astype(float) + 1, g.astype(float) + 1, relevance)
    monkeypatch.setattr("medlike.metrics.ties._PAIRS", 100)
    np.testing.assert_array_equal(hamming_counts(q, g, relevance).items, whole.items)
    again = score_features(q.astype(float) + 1, g.astype(float) + 1, relevance)
    np.testing.assert_allclose(again.values["map_expected"], features.values["map_expected"])


def test_excluded_pairs_are_as_if_they_were_not_in_the_gallery():
    rng = np.random.default_rng(6)
    q, g = rng.integers(0, 256, (5, 1), dtype=np.uint8), rng.integers(0, 256, (30, 1), dtype=np.uint8)
    wanted, labels = rng.integers(0, 2, 5), rng.integers(0, 2, 30)
    own, other = np.array([0, 1, 2, -1, 3]), np.repeat([0, 1, 2, -1, 9], 6)
    counts = hamming_counts(q, g, Relevance.of(wanted, labels, own, other))
    for query in range(5):
        keep = (other != own[query]) | (own[query] < 0)
        alone = hamming_counts(q[[query]], g[keep], Relevance.of(wanted[[query]], labels[keep]))
        np.testing.assert_array_equal(counts.items[query], alone.items[0])
        np.testing.assert_array_equal(counts.relevant[query], alone.relevant[0])
    distances = np.unpackbits(q[:, None, :] ^ g[None, :, :], axis=2).sum(axis=2).astype(float)
    dense = score_counts(distances, Relevance.of(wanted, labels, own, other))
    np.testing.assert_allclose(average_precision(dense), average_precision(counts), atol=1e-12)


def test_several_labels_an_image_are_relevant_when_one_is_shared():
    codes = np.array([[0], [1], [3], [7]], np.uint8)
    labels = np.array([[1, 0, 0], [0, 1, 1], [1, 1, 0], [0, 0, 1]], bool)
    counts = hamming_counts(codes[:1], codes, Relevance.of(np.array([[1, 0, 1]], bool), labels))
    assert counts.relevant[0, :4].tolist() == [1, 1, 1, 1]
    counts = hamming_counts(codes[:1], codes, Relevance.of(np.array([[0, 1, 0]], bool), labels))
    assert counts.relevant[0, :4].tolist() == [0, 1, 1, 0]


def test_relevance_can_be_given_pair_by_pair():
    rng = np.random.default_rng(4)
    codes, labels = rng.integers(0, 256, (30, 2), dtype=np.uint8), rng.integers(0, 3, 30)
    by_label = score_codes(codes[:9], codes, Relevance.of(labels[:9], labels)).means()
    assert score_codes(codes[:9], codes, labels[:9, None] == labels[None, :]).means() == by_label
    with pytest.raises(QueryError, match="bool"):
        score_codes(codes[:9], codes, np.ones((9, 30)))
    with pytest.raises(QueryError, match="labels"):
        score_codes(codes[:9], codes, np.ones((8, 30), bool))


def test_integer_and_string_labels_mean_the_same():
    rng = np.random.default_rng(8)
    codes = rng.integers(0, 256, (20, 1), dtype=np.uint8)
    labels = rng.integers(0, 3, 20)
    a = score_codes(codes, codes, Relevance.of(labels, labels)).means()
    b = score_codes(codes, codes, Relevance.of(labels.astype(str), labels.astype(object))).means()
    assert a == b


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (np.zeros((3, 2), np.float32), np.zeros(3), "uint8"),
        (np.zeros(3, np.uint8), np.zeros(3), "uint8"),
        (np.zeros((3, 4), np.uint8), np.zeros(3), "bits"),
        (np.zeros((3, 2), np.uint8), np.zeros(4), "3 gallery codes but 4"),
        (np.zeros((3, 2), np.uint8), np.zeros((3, 2)), "shape"),
    ],
)
def test_what_does_not_fit_is_said(codes, labels, message):
    with pytest.raises(QueryError, match=message):
        score_codes(np.zeros((2, 2), np.uint8), codes, Relevance.of(np.zeros(2), labels))
