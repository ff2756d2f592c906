"""Closed forms under ties against brute force over every order, and against scikit-learn and torchmetrics."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlike.errors import QueryError
from medlike.metrics import (
    Relevance,
    TieCounts,
    average_precision,
    ndcg,
    precision_at,
    recall_at,
    score,
    score_codes,
    score_counts,
    score_features,
)


def orders(groups):
    """Every ranking (list of 0/1) that a list of (items, relevant) tie groups can come out as."""
    blocks = []
    for items, relevant in groups:
        blocks.append(list(permutations([1] * relevant + [0] * (items - relevant))))
    return [[hit for block in choice for hit in block] for choice in product(*blocks)]


def plain_ap(ranking, k, denominator):
    total = sum(ranking)
    top = ranking[:k] if k else ranking
    numerator = sum(sum(top[: i + 1]) / (i + 1) for i, hit in enumerate(top) if hit)
    divisor = min(total, k or total) if denominator == "relevant" else sum(top)
    return numerator / divisor if divisor else 0.0


def plain_ndcg(ranking, k):
    top = ranking[:k] if k else ranking
    ideal = sorted(ranking, reverse=True)[: k or None]
    gain = lambda hits: sum(h / np.log2(i + 2) for i, h in enumerate(hits))  # noqa: E731
    return gain(top) / gain(ideal)


def counts_of(groups) -> TieCounts:
    return TieCounts(np.array([[g[0] for g in groups]]), np.array([[g[1] for g in groups]]))


@st.composite
def tied_groups(draw):
    groups = []
    for _ in range(draw(st.integers(1, 4))):
        items = draw(st.integers(0, 4 if len(groups) < 2 else 2))
        groups.append((items, draw(st.integers(0, items))))
    return groups


@settings(max_examples=150, deadline=None)
@given(tied_groups(), st.one_of(st.none(), st.integers(1, 12)))
def test_closed_forms_equal_brute_force_over_all_orders(groups, k):
    counts = counts_of(groups)
    rankings = orders(groups)
    if sum(r for _, r in groups) == 0:
        assert np.isnan(average_precision(counts, k)[0])
        return
    for denominator in ("relevant", "hits"):
        every = [plain_ap(r, k, denominator) for r in rankings]
        assert average_precision(counts, k, "expected", denominator)[0] == pytest.approx(np.mean(every), abs=1e-9)
        if denominator == "relevant":
            assert average_precision(counts, k, "best", denominator)[0] == pytest.approx(max(every), abs=1e-9)
            assert average_precision(counts, k, "worst", denominator)[0] == pytest.approx(min(every), abs=1e-9)
    assert ndcg(counts, k)[0] == pytest.approx(np.mean([plain_ndcg(r, k) for r in rankings]), abs=1e-9)
    n = k or 3
    shown = min(n, sum(i for i, _ in groups))
    assert precision_at(counts, n)[0] == pytest.approx(np.mean([sum(r[:n]) / shown for r in rankings]))
    assert recall_at(counts, n)[0] == pytest.approx(np.mean([sum(r[:n]) / sum(r) for r in rankings]))


def test_best_and_worst_over_hits_follow_the_same_rankings_as_over_relevant():
    counts = counts_of([(2, 1), (3, 2), (2, 0)])
    best, worst = [1, 0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 0, 0]
    for k in (1, 2, 3, 4, 7):
        assert average_precision(counts, k, "best", "hits")[0] == pytest.approx(plain_ap(best, k, "hits"))
        assert average_precision(counts, k, "worst", "hits")[0] == pytest.approx(plain_ap(worst, k, "hits"))


def random_ranking(rng, queries=30, gallery=200, classes=5):
    labels = rng.integers(0, classes, gallery)
    wanted = rng.integers(0, classes, queries)
    distances = rng.permuted(np.tile(np.arange(gallery, dtype=np.float64), (queries, 1)), axis=1)
    distances -= 60.0 * (labels[None, :] == wanted[:, None])
    distances += rng.random(distances.shape) * 1e-3
    return wanted, labels, distances


def test_untied_input_agrees_with_scikit_learn():
    from sklearn.metrics import average_precision_score, ndcg_score

    rng = np.random.default_rng(0)
    wanted, labels, distances = random_ranking(rng)
    counts = score_counts(distances, Relevance.of(wanted, labels))
    relevant = labels[None, :] == wanted[:, None]
    reference = [average_precision_score(r, -d) for r, d in zip(relevant, distances, strict=True)]
    for order in ("expected", "worst", "best"):
        np.testing.assert_allclose(average_precision(counts, order=order), reference, atol=1e-12)
    for k in (10, None):
        mine = ndcg(counts, k).mean()
        assert mine == pytest.approx(ndcg_score(relevant.astype(float), -distances, k=k), abs=1e-12)


def test_untied_input_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.retrieval import (
        retrieval_average_precision,
        retrieval_normalized_dcg,
        retrieval_precision,
        retrieval_recall,
    )

    rng = np.random.default_rng(1)
    wanted, labels, distances = random_ranking(rng)
    counts = score_counts(distances, Relevance.of(wanted, labels))
    ap, ap10 = average_precision(counts), average_precision(counts, 10, denominator="hits")
    p10, r10, n10 = precision_at(counts, 10), recall_at(counts, 10), ndcg(counts, 10)
    for q in range(len(wanted)):
        # Ranks, because torchmetrics rounds to float32 and would see ties.
        ranks = distances[q].argsort().argsort()
        scores, target = torch.tensor(1 - ranks / len(ranks)), torch.tensor(labels == wanted[q])
        assert ap[q] == pytest.approx(float(retrieval_average_precision(scores, target)), abs=1e-6)
        # torchmetrics divides by the hits inside the top k.
        assert ap10[q] == pytest.approx(float(retrieval_average_precision(scores, target, top_k=10)), abs=1e-6)
        assert p10[q] == pytest.approx(float(retrieval_precision(scores, target, top_k=10)), abs=1e-6)
        assert r10[q] == pytest.approx(float(retrieval_recall(scores, target, top_k=10)), abs=1e-6)
        assert n10[q] == pytest.approx(float(retrieval_normalized_dcg(scores, target, top_k=10)), abs=1e-6)


def test_constant_codes_give_chance_whatever_the_storage_order():
    labels = np.repeat([0, 1], [25, 75])
    codes = np.zeros((100, 2), np.uint8)
    scores = score_codes(codes[:1], codes, Relevance.of(np.array([0]), labels))
    expected = np.mean(
        [
            plain_ap(np.random.default_rng(s).permutation(labels == 0).astype(int).tolist(), None, "relevant")
            for s in range(3000)
        ]
    )
    assert scores.mean("map_expected") == pytest.approx(expected, abs=0.003)
    assert scores.mean("map_best") == 1.0 and scores.mean("map_worst") < 0.2


def test_settings_outside_their_range_are_refused():
    counts = counts_of([(2, 1)])
    for bad in ({"k": 0}, {"order": "random"}, {"denominator": "k"}):
        with pytest.raises(QueryError):
            average_precision(counts, **bad)
    with pytest.raises(QueryError, match="NaN"):
        score_counts(np.array([[np.nan]]), Relevance.of(np.zeros(1), np.zeros(1)))
    with pytest.raises(QueryError, match="all zeros"):
        score_features(np.ones((1, 2)), np.zeros((1, 2)), Relevance.of(np.zeros(1), np.zeros(1)))
    assert score(counts).queries == 1


def test_binomial_coefficients_agree_with_scipy():
    from scipy.special import gammaln

    from medlike.metrics.average_precision import _choose

    for n in (0, 1, 7, 1_000, 1_000_000):
        k = np.unique(np.linspace(0, n, 50).astype(int))
        terms = gammaln(n + 1), gammaln(k + 1), gammaln(n - k + 1)
        np.testing.assert_allclose(_choose(n, k), terms[0] - terms[1] - terms[2], rtol=0, atol=1e-12 * max(terms[0], 1))
