import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.evaluation.floors import (
    fingerprint_features,
    fit_discriminant,
    fit_itq,
    fit_random_projection,
    hash_codes,
)
from medlike.metrics import Relevance, score_codes, score_features


def clusters(seed=0, classes=6, each=40, dimensions=48, spread=1.2, loud=40.0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dimensions))
    labels = np.repeat(np.arange(classes), each)
    x = centres[labels] + rng.normal(0, spread, (classes * each, dimensions))
    x[:, 0] += rng.normal(0, loud, len(x)) if loud else 0.0  # one loud dimension without meaning
    return x, labels


def test_itq_beats_random_projections_and_keeps_most_of_the_features():
    train, _ = clusters(1, loud=0)
    x, labels = clusters(2, loud=0)
    relevance = Relevance.of(labels, labels)
    scores = {}
    for name, fit in (("itq", fit_itq), ("random", fit_random_projection)):
        codes = fit(train, 32)(x)
        assert codes.shape == (len(x), 4) and codes.dtype == np.uint8
        scores[name] = score_codes(codes, codes, relevance).mean("map_expected")
    assert scores["itq"] > scores["random"] + 0.02


def test_itqs_rotation_lowers_the_quantisation_error():
    train, _ = clusters(1, loud=0)
    few, many = (fit_itq(train, 16, iterations=n)(train) for n in (0, 50))
    centred = train - train.mean(axis=0)
    similarity = centred @ centred.T

    def agreement(codes):
        bits = np.unpackbits(codes, axis=1) * 2.0 - 1
        return np.corrcoef((bits @ bits.T).ravel(), similarity.ravel())[0, 1]

    assert agreement(many) > agreement(few)


def test_itq_keeps_the_weighting_of_dimensions_that_the_features_have():
    train, _ = clusters(1, loud=0)
    x, labels = clusters(2, loud=0)
    # Many dimensions that the features themselves make small: standardised they would drown the others.
    noise = np.random.default_rng(0).normal(0, 1, (2, len(x), 200))
    relevance = Relevance.of(labels, labels)
    found = {}
    for weight in (0.02, 1.5):
        wide, asked = (np.concatenate([f, weight * n], axis=1) for f, n in zip((train, x), noise, strict=True))
        codes = fit_itq(wide, 8)(asked)
        found[weight] = score_codes(codes, codes, relevance).mean("map_expected")
    assert found[0.02] > found[1.5] + 0.02


def test_no_source_outweighs_the_others():
    rng = np.random.default_rng(0)
    few, many = rng.normal(0, [0.1] * 8 + [1] * 8, (800, 16)), rng.normal(0, [1] * 8 + [0] * 8, (8000, 16))
    rows, sources = np.concatenate([few, many]), ["few"] * 800 + ["many"] * 8000
    kept = {}
    for name, given in (("plain", None), ("balanced", sources)):
        bits = np.unpackbits(fit_itq(rows, 8, sources=given)(few), axis=1).astype(float)
        kept[name] = np.abs(np.corrcoef(bits.T, few[:, 8:].T)[:8, 8:]).max()
    assert kept["balanced"] > kept["plain"] + 0.2  # what varies in the small source alone is seen


def test_the_discriminant_finds_the_directions_that_matter():
    train, labels = clusters(1)
    x, wanted = clusters(2)
    relevance = Relevance.of(wanted, wanted)
    projected = fit_discriminant(train, labels)(x)
    assert projected.shape == (len(x), 5)
    raw = score_features(x, x, relevance).mean("map_expected")
    assert score_features(projected, projected, relevance).mean("map_expected") > raw + 0.2


def test_it_agrees_with_scikit_learn_when_nothing_is_shrunk():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    train, labels = clusters(1)
    x, wanted = clusters(2)
    mine = fit_discriminant(train, labels, shrinkage=0.0)(x)
    reference = LinearDiscriminantAnalysis(solver="eigen").fit(train, labels).transform(x)
    relevance = Relevance.of(wanted, wanted)
    ours, theirs = (score_features(f, f, relevance).mean("map_expected") for f in (mine, reference))
    assert ours == pytest.approx(theirs, abs=0.03)


def test_fingerprints_are_compared_by_correlation():
    rng = np.random.default_rng(0)
    prints = rng.integers(0, 100, (3, 16, 16), dtype=np.uint8)
    prints[1] = prints[0] * 2 + 10
    prints[2] = 50
    f = fingerprint_features(prints)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    assert f[0] @ f[1] == pytest.approx(1, abs=1e-5)
    assert abs(f[2] @ f[0]) < 0.5


def test_perceptual_hashes_become_codes_most_significant_bit_first():
    assert hash_codes(np.array([1 << 63, 1], np.uint64)).tolist() == [[128] + [0] * 7, [0] * 7 + [1]]


def test_what_cannot_be_fitted_is_said():
    x, labels = clusters()
    with pytest.raises(QueryError, match="multiple of 8"):
        fit_itq(x, 12)
    with pytest.raises(QueryError, match="as many dimensions"):
        fit_itq(x, 64)
    with pytest.raises(QueryError, match="two classes"):
        fit_discriminant(x, np.zeros(len(x)))
    assert len(labels) == len(x)
