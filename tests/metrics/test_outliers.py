import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc

from medlike.errors import QueryError
from medlike.metrics import aupr, auroc, detection_at, false_alarms_at, roc_curve


@pytest.mark.parametrize("decimals", [12, 1, 0])
def test_areas_agree_with_scikit_learn_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    inside, outside = rng.normal(0, 1, 300).round(decimals), rng.normal(1.5, 1, 70).round(decimals)
    truth, scores = np.repeat([0, 1], [300, 70]), np.concatenate([inside, outside])
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(truth, scores))
    assert aupr(inside, outside) == pytest.approx(average_precision_score(truth, scores))
    false, true, thresholds = roc_curve(inside, outside)
    f, t, c = sklearn_roc(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(false, f)
    np.testing.assert_allclose(true, t)
    np.testing.assert_allclose(thresholds, c)


def test_operating_points_are_those_that_can_be_had():
    inside, outside = np.arange(100.0), np.array([50.5, 97.5, 98.5, 200.0])
    assert detection_at(inside, outside, 0.03) == 0.75
    assert detection_at(inside, outside, 0.02) == 0.75
    assert detection_at(inside, outside, 0.0) == 0.25
    assert false_alarms_at(inside, outside, 0.75) == 0.02
    assert false_alarms_at(inside, outside, 0.95) == 0.49
    # Ties: a threshold cannot flag half of equal scores.
    assert detection_at(np.zeros(100), np.zeros(3), 0.03) == 0.0


def test_the_sign_is_higher_is_stranger():
    assert auroc(np.array([0.0, 1]), np.array([2.0, 3])) == 1.0
    assert auroc(np.array([2.0, 3]), np.array([0.0, 1])) == 0.0


@pytest.mark.parametrize("pair", [([], [1.0]), ([1.0], []), ([np.nan], [1.0])])
def test_scores_that_cannot_be_compared_are_refused(pair):
    with pytest.raises(QueryError):
        auroc(np.array(pair[0]), np.array(pair[1]))
