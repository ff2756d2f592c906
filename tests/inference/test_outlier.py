"""Outlier verdicts: the promise of the p-value, and each part against a plain reference."""

import numpy as np
import pytest

from medlike.bundle import Bundle
from medlike.errors import InputError
from medlike.inference.outlier import OutlierScorer, OutlierSettings, fit_outlier


def cloud(count, seed, shift=0.0, size=12):
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(size, size))
    return (random.normal(size=(count, size)) @ mixing + shift).astype(np.float32)


def scorer(reference=300, calibration=400, modality=None, **changes):
    names = modality or ["CT"] * calibration
    arrays, facts = fit_outlier(
        cloud(reference, 1), cloud(calibration, 2), names, settings=OutlierSettings(**changes)
    )
    return OutlierScorer(arrays, facts)


def test_false_alarms_keep_the_promise():
    rates = []
    for seed in range(8):
        arrays, facts = fit_outlier(cloud(200, seed), cloud(199, 100 + seed), ["CT"] * 199)
        verdicts = OutlierScorer(arrays, facts).verdicts(cloud(1000, 200 + seed))
        rates.append(verdicts.is_outlier.mean())
    # 3 % promised; the spread of the mean of eight calibrations of 199 units is 0.4 %.
    assert 0.015 < np.mean(rates) < 0.043


def test_strangers_are_found_and_the_further_the_stranger():
    found = scorer()
    near, far = found.verdicts(cloud(200, 3, 4.0)), found.verdicts(cloud(200, 3, 25.0))
    assert far.is_outlier.all()
    assert far.score.mean() > near.score.mean() > found.verdicts(cloud(200, 3)).score.mean()


def test_the_p_value_counts_calibration_scores_at_least_as_strange():
    found = scorer(calibration=150)
    scores = found.calibration["pooled"]
    for score in (scores[0], scores[75], scores[-1], scores[-1] + 1, scores[0] - 1):
        expected = (1 + (scores >= np.float32(score)).sum()) / 151
        assert found.p_value(float(score), None) == (pytest.approx(expected), "pooled")


def test_neighbour_distance_is_that_of_the_kth_nearest_direction():
    found = scorer(k=4)
    query = cloud(1, 5)[0]
    parts = found.parts(query)
    directions = cloud(300, 1) / np.linalg.norm(cloud(300, 1), axis=1, keepdims=True)
    distances = np.sort(np.linalg.norm(directions - query / np.linalg.norm(query), axis=1))
    assert parts[0] == pytest.approx(distances[3], abs=2e-3)


def test_mahalanobis_is_that_of_the_nearest_cluster():
    size, settings = 12, OutlierSettings(shrinkage=0.1)
    first, second = cloud(150, 1), cloud(150, 2, 30.0)
    reference = np.vstack([first, second])
    arrays, facts = fit_outlier(
        reference, cloud(100, 3), [None] * 100, reference_cluster=[0] * 150 + [1] * 150, settings=settings
    )
    away = np.vstack([first - first.mean(0), second - second.mean(0)]).astype(np.float64)
    covariance = away.T @ away / 298
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / size * np.eye(size)
    query = cloud(1, 5, 12.0)[0]
    ways = [query - first.mean(0), query - second.mean(0)]
    expected = min(np.sqrt(way @ np.linalg.solve(covariance, way)) for way in ways)
    assert OutlierScorer(arrays, facts).parts(query)[1] == pytest.approx(expected, rel=1e-3)


def test_a_modality_answers_for_itself_from_200_units_on():
    found = scorer(calibration=500, modality=["CT"] * 300 + ["XR"] * 199 + [None])
    assert found.verdicts(cloud(3, 4), ["CT", "XR", "US"]).modality == ["CT", "pooled", "pooled"]


def test_an_unknown_modality_gets_the_largest_p():
    arrays, facts = fit_outlier(
        cloud(300, 1), np.vstack([cloud(250, 2), cloud(250, 3, 6.0)]), ["CT"] * 250 + ["XR"] * 250
    )
    found = OutlierScorer(arrays, facts)
    queries = cloud(40, 4, 5.0)
    unknown = found.verdicts(queries, [None] * 40).p
    each = [found.verdicts(queries, [name] * 40).p for name in ("CT", "XR", "US")]
    np.testing.assert_array_equal(unknown, np.max(each, axis=0))
    assert (unknown > each[0]).any()


def test_one_answer_alone_or_among_others():
    found, queries = scorer(), cloud(30, 6, 2.0)
    together = found.verdicts(queries)
    for row in range(30):
        alone = found.verdicts(queries[row : row + 1])
        assert (alone.score[0], alone.p[0]) == (together.score[row], together.p[row])


def test_the_reference_does_not_see_its_own_patient():
    twice = np.repeat(cloud(80, 1), 8, axis=0)
    arguments = (twice, cloud(60, 2), [None] * 60)
    naive, _ = fit_outlier(*arguments)
    careful, _ = fit_outlier(*arguments, reference_unit=np.repeat(np.arange(80), 8).tolist())
    assert naive["outlier.location"][0] < 0.01 < careful["outlier.location"][0]


def test_reconstruction_error_takes_part_where_there_is_one():
    random = np.random.default_rng(0)
    errors = random.gamma(9, 0.1, 700).astype(np.float32)
    arrays, facts = fit_outlier(
        cloud(300, 1),
        cloud(400, 2),
        ["CT"] * 400,
        reference_error=errors[:300],
        calibration_error=errors[300:],
    )
    found = OutlierScorer(arrays, facts)
    queries = cloud(50, 3)
    usual = found.verdicts(queries, None, np.full(50, 0.9, np.float32))
    bad = found.verdicts(queries, None, np.full(50, 9.0, np.float32))
    assert bad.is_outlier.all() and not usual.is_outlier.all()
    assert set(bad.components) == {"neighbours", "mahalanobis", "reconstruction"}


def test_too_little_is_refused_with_what_is_needed():
    with pytest.raises(InputError, match="3 reference images; neighbour 5 needs 7"):
        fit_outlier(cloud(3, 1), cloud(100, 2), [None] * 100)
    with pytest.raises(InputError, match=r"20 calibration units; a threshold of 0\.03 needs at least 33"):
        fit_outlier(cloud(50, 1), cloud(20, 2), [None] * 20)
    with pytest.raises(InputError, match="or of neither"):
        fit_outlier(cloud(50, 1), cloud(40, 2), [None] * 40, reference_error=np.ones(50, np.float32))


def test_a_bundle_without_the_part_gives_no_verdict(tiny_bundle, tmp_path):
    from medlike.bundle import rewrite

    bare = rewrite(tiny_bundle, tmp_path / "bare", None, {"outlier": None})
    assert OutlierScorer.of(bare) is None
    assert OutlierScorer.of(Bundle.load(tiny_bundle.path)) is not None
