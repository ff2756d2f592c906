"""All metrics of one method together: which queries count, and how batches are merged."""

import time

import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.metrics import Relevance, hamming_counts, score, score_codes
from medlike.metrics.retrieval import merge


def test_queries_without_relevant_items_are_left_out_and_counted():
    codes = np.array([[0], [1], [3]], np.uint8)
    scores = score_codes(codes, codes, Relevance.of(np.array(["a", "b", "z"]), np.array(["a", "b", "a"])))
    assert scores.without_relevant == 1 and scores.queries == 3
    assert np.isnan(scores.values["map_at_k"][2])
    assert scores.mean("map_best") == pytest.approx((np.mean([1, 2 / 3]) + 1) / 2)
    nothing = score_codes(codes, codes, Relevance.of(np.array(["x", "y", "z"]), np.array(["a", "b", "a"])))
    assert np.isnan(nothing.mean("map_expected")) and nothing.without_relevant == 3


def test_five_thousand_queries_against_thirty_thousand_codes_take_seconds():
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(0, 256, (35_000, 8), dtype=np.uint8), rng.integers(0, 16, 35_000)
    start = time.process_time()
    score_codes(codes[:5000], codes[5000:], Relevance.of(labels[:5000], labels[5000:]))
    assert time.process_time() - start < 20


def test_without_a_radius_there_is_no_column_for_it():
    codes = np.arange(8, dtype=np.uint8)[:, None]
    counts = hamming_counts(codes, codes, Relevance.of(np.arange(8) % 2, np.arange(8) % 2))
    assert score(counts).precision_within.shape == score(counts).found_within.shape == (8, 0)
    assert score(counts, radius=2).recall_within.shape == (8, 3)


def test_merged_batches_are_the_scores_of_all_queries():
    rng = np.random.default_rng(3)
    codes, labels = rng.integers(0, 256, (30, 2), dtype=np.uint8), rng.integers(0, 3, 30)
    whole = score_codes(codes, codes, Relevance.of(labels, labels))
    parts = [score_codes(codes[rows], codes, Relevance.of(labels[rows], labels)) for rows in np.split(np.arange(30), 3)]
    merged = merge(parts)
    assert merged.means() == whole.means() and merged.queries == 30
    np.testing.assert_array_equal(merged.recall_within, whole.recall_within)
    np.testing.assert_array_equal(merged.curve, whole.curve)
    with pytest.raises(QueryError, match="no queries"):
        merge([])
