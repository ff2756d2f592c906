import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.metrics import bootstrap_interval, holm, paired_permutation


def test_intervals_over_single_units_match_the_normal_one():
    rng = np.random.default_rng(0)
    values = rng.normal(0.6, 0.2, 400)
    found = bootstrap_interval(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.003)
    assert found.high == pytest.approx(values.mean() + half, abs=0.003)
    assert found.units == 400


def test_copies_inside_a_unit_do_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    values = rng.normal(0.6, 0.2, 100)
    alone = bootstrap_interval(values, np.arange(100))
    copied = bootstrap_interval(np.repeat(values, 10), np.repeat(np.arange(100), 10))
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.01)
    as_if_independent = bootstrap_interval(np.repeat(values, 10), np.arange(1000))
    assert as_if_independent.high - as_if_independent.low < 0.5 * (alone.high - alone.low)


def test_nan_values_are_left_out():
    found = bootstrap_interval(np.array([1.0, np.nan, 3.0]), np.array([0, 1, 2]))
    assert found.mean == 2.0 and found.units == 2
    assert bootstrap_interval(np.array([np.nan]), np.array([0])).units == 0


def test_the_paired_test_is_exact_for_few_units():
    a, b = np.array([0.9, 0.8, 0.7, 0.9]), np.array([0.5, 0.5, 0.5, 0.5])
    assert paired_permutation(a, b, np.arange(4)) == 2 / 16
    assert paired_permutation(a, a, np.arange(4)) == 1.0
    # Two units: even a large difference in all their queries proves little.
    assert paired_permutation(a, b, np.array([0, 0, 1, 1])) == 0.5


def test_the_paired_test_agrees_with_scipy_on_many_units():
    from scipy.stats import permutation_test

    rng = np.random.default_rng(2)
    a = rng.normal(0.02, 0.1, 80)
    b = np.zeros(80)
    reference = permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9999, random_state=0,
    ).pvalue  # fmt: skip
    assert paired_permutation(a, b, np.arange(80)) == pytest.approx(reference, abs=0.02)


def test_the_paired_test_keeps_its_level_when_nothing_differs():
    rng = np.random.default_rng(3)
    small = 0
    for _ in range(200):
        unit_effect = np.repeat(rng.normal(0, 0.1, 20), 5)
        small += paired_permutation(unit_effect, np.zeros(100), np.repeat(np.arange(20), 5), 400) <= 0.05
    assert small <= 20


def test_different_queries_cannot_be_paired():
    with pytest.raises(QueryError, match="same queries"):
        paired_permutation(np.zeros(3), np.zeros(4), np.zeros(3))
    with pytest.raises(QueryError, match="different queries"):
        paired_permutation(np.array([1.0, np.nan]), np.array([np.nan, 1.0]), np.arange(2))


def test_holm_is_the_step_down_procedure():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1.0, 1.0])
    assert holm([]) == []
    mixed = holm([0.01, float("nan"), 0.02])
    assert mixed[0] == 0.02 and np.isnan(mixed[1]) and mixed[2] == 0.02
