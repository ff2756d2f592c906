"""Verdicts calibrated over sources left out in turn: the score, the promise and the round trip to a site."""

import numpy as np
import pytest

from medlike.errors import TrainingError
from medlike.inference.outlier import OutlierScorer, extend_outlier
from medlike.metrics.outliers import auroc
from medlike.training.outlier_fit import RIDGE, add_reconstruction, fit_contrast, fit_without_kinds

SIZE, COLUMNS = 16, 12


def sources(count, each, seed=0, spread=0.7):
    """Return features of sources that differ by an offset of their own, and the source of each row."""
    random = np.random.default_rng(seed)
    offsets = np.repeat(random.normal(scale=spread, size=(count, SIZE)), each, axis=0)
    rows = (random.normal(size=(count * each, SIZE)) + offsets).astype(np.float32)
    return rows, [f"source {n}" for n in np.repeat(np.arange(count), each)]


def strangers(count=90, seed=50):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, SIZE)) + 3 * (np.arange(SIZE) < 6)
    return rows.astype(np.float32), ["photo"] * (count // 3) + ["page"] * (count - count // 3)


def fitted(rows, names, modality=None, outliers=None):
    units = np.arange(len(rows))
    modality = modality or ["CT"] * len(rows)
    return fit_contrast(
        rows, COLUMNS, names, units, modality, *(outliers or strangers()), np.random.default_rng(0)
    )


def test_the_score_is_the_ridge_regression_on_which_are_outliers():
    rows, names = sources(2, 100)
    outliers, kinds = strangers()
    arrays, _ = fitted(rows, names)
    mean, deviation = rows.astype(np.float64).mean(0)[:COLUMNS], rows.astype(np.float64).std(0)[:COLUMNS]
    both = (np.vstack([rows, outliers])[:, :COLUMNS] - mean) / deviation
    weights = np.r_[np.full(200, 1 / 400), np.where(np.array(kinds) == "photo", 1 / 120, 1 / 240)]
    sides = np.repeat([-1.0, 1.0], [200, 90])
    # Ridge as plain least squares: a row for every penalised weight.
    design = np.vstack([
        np.column_stack([both, np.ones(290)]) * np.sqrt(weights)[:, None],
        np.column_stack([np.eye(COLUMNS) * RIDGE**0.5, np.zeros(COLUMNS)]),
    ])  # fmt: skip
    solved = np.linalg.lstsq(design, np.r_[sides * np.sqrt(weights), np.zeros(COLUMNS)], rcond=None)[0]
    expected = both @ solved[:-1] + solved[-1]
    found = OutlierScorer(arrays, _)
    np.testing.assert_allclose(found.verdicts(np.vstack([rows, outliers])).score, expected, atol=1e-5)


def test_what_training_touched_says_nothing():
    rows, names = sources(4, 50)
    found = OutlierScorer(*fitted(rows, names))
    changed = rows[:9].copy()
    changed[:, COLUMNS:] += 100
    np.testing.assert_array_equal(found.verdicts(changed).score, found.verdicts(rows[:9]).score)


def test_calibration_scores_come_from_fits_without_their_source():
    rows, names = sources(4, 70)
    arrays, _ = fitted(rows, names)
    for source in set(names):
        away = np.array(names) == source
        rest = fitted(rows[~away], [name for name in names if name != source])[0]
        expected = rows[away] @ rest["outlier.direction"] + rest["outlier.offset"]
        np.testing.assert_allclose(arrays["outlier.calibration"][away], expected, atol=1e-5)


def test_the_promise_holds_on_sources_never_seen_and_outliers_are_found():
    rates, detected = [], []
    for seed in range(6):
        rows, names = sources(60, 40, seed)
        found = OutlierScorer(*fitted(rows, names))
        rates.append(found.verdicts(sources(30, 40, 100 + seed)[0]).is_outlier.mean())
        detected.append(found.verdicts(strangers(seed=200 + seed)[0]).is_outlier.mean())
    assert 0.015 < np.mean(rates) < 0.045
    assert np.mean(detected) > 0.9


def test_a_source_calibrates_as_the_root_of_its_images():
    rows, names = sources(2, 400)
    keep = np.r_[0:400, 400:500]
    arrays, facts = fitted(rows[keep], [names[i] for i in keep])
    found = OutlierScorer(arrays, facts)
    weights = np.repeat([400**-0.5, 100**-0.5], [400, 100])
    for score in np.quantile(arrays["outlier.calibration"], [0.1, 0.5, 0.99]).astype(np.float32):
        beyond = arrays["outlier.calibration"] >= score
        expected = (1 + 500 * weights[beyond].sum() / weights.sum()) / 501
        assert found.p_value(float(score), "CT") == (pytest.approx(expected), "CT")


def test_the_largest_p_over_the_modalities_counts_whatever_is_predicted():
    rows, names = sources(6, 100)
    rows[300:, :6] += 1
    found = OutlierScorer(*fitted(rows, names, ["CT"] * 300 + ["US"] * 300))
    assert set(found.calibration) == {"CT", "US"}
    verdicts = found.verdicts(rows[:50], ["CT"] * 50)
    scores = [found.calibration[name] for name in ("CT", "US")]
    assert set(verdicts.modality) == {"US"}
    assert (verdicts.p >= [(scores[0] >= s).mean() * 0.9 for s in verdicts.score]).all()


def test_a_site_calibrates_it_without_a_reference():
    rows, names = sources(8, 60)
    site = sources(1, 400, 7)[0] + np.float32(1.5)
    part = fitted(rows, names)
    arrays, facts = extend_outlier(*part, site[:0], [], site[:200], ["CT"] * 200)
    before, after = (OutlierScorer(*each).verdicts(site[200:], ["CT"] * 200) for each in (part, (arrays, facts)))
    np.testing.assert_array_equal(before.score, after.score)
    assert after.is_outlier.mean() < 0.07 < before.is_outlier.mean()
    assert facts["calibration_units"] == {"pooled": 200, "CT": 200} and set(after.modality) == {"CT"}


def test_one_origin_or_no_outlier_is_refused():
    rows, names = sources(2, 60)
    with pytest.raises(TrainingError, match="1 origins and 90 outliers"):
        fitted(rows[:60], names[:60])
    with pytest.raises(TrainingError, match="2 origins and 0 outliers"):
        fitted(rows, names, outliers=(np.zeros((0, SIZE), np.float32), []))


def test_a_lone_origin_is_calibrated_on_images_that_were_not_fitted_to():
    rows, names = sources(1, 300)
    left_out = np.arange(300) >= 180
    given = (rows, COLUMNS, names, np.arange(300), ["CT"] * 300, *strangers(), np.random.default_rng(0))
    arrays, facts = fit_contrast(*given, lone={"source 0": left_out})
    assert facts["calibrated_on_units"] == ["source 0"] and "calibrated_on_units" not in fitted(*sources(2, 60))[1]
    assert (facts["reference_images"], facts["calibration_units"]) == (300, {"pooled": 120, "CT": 120})
    found = OutlierScorer(arrays, facts)
    assert found.verdicts(sources(1, 600)[0][300:]).is_outlier.mean() < 0.07
    assert found.verdicts(strangers(seed=51)[0]).is_outlier.mean() > 0.9


def test_beside_a_lone_origin_the_others_are_left_out_whole():
    rows, names = sources(3, 80)
    left_out = (np.arange(240) >= 40) & (np.arange(240) < 80)
    given = (rows, COLUMNS, names, np.arange(240), ["CT"] * 240, *strangers(), np.random.default_rng(0))
    arrays, _ = fit_contrast(*given, lone={"source 0": left_out})
    without = fitted(rows[~left_out], [name for n, name in enumerate(names) if not left_out[n]])[0]
    expected = rows[left_out] @ without["outlier.direction"] + without["outlier.offset"]
    np.testing.assert_allclose(arrays["outlier.calibration"][:40], expected, atol=1e-5)
    whole = fitted(rows[:160], names[:160])[0]
    expected = rows[160:] @ whole["outlier.direction"] + whole["outlier.offset"]
    np.testing.assert_allclose(arrays["outlier.calibration"][120:], expected, atol=1e-5)


def test_a_kind_left_out_is_judged_by_a_fit_without_it_and_images_by_one_without_their_source():
    rows, names = sources(3, 80)
    outliers, kinds = strangers()
    outliers[:30] = rows[:30] - 2 * (np.arange(SIZE) >= 6)
    table = fit_without_kinds(rows[:, :COLUMNS], names, outliers[:, :COLUMNS], kinds)
    assert set(table) == {"photo", "page"}
    part = np.array(kinds) == "page"
    inside = np.zeros(len(rows))
    for source in set(names):
        away = np.array(names) == source
        rest = fitted(rows[~away], [name for name in names if name != source], outliers=(outliers[part], ["page"] * 60))
        inside[away] = OutlierScorer(*rest).verdicts(rows[away]).score
    outside = OutlierScorer(*fitted(rows, names, outliers=(outliers[part], ["page"] * 60))).verdicts(outliers[~part])
    assert table["photo"]["auroc"] == pytest.approx(auroc(inside, outside.score), abs=1e-4)
    assert table["photo"]["auroc"] < 0.6 < table["page"]["detected_at_3_percent"] + 0.6


def test_the_decoder_explains_and_does_not_judge():
    rows, names = sources(4, 70)
    errors = np.random.default_rng(3).gamma(2, size=280).astype(np.float32)
    part = fitted(rows, names)
    plain, both = OutlierScorer(*part), OutlierScorer(*add_reconstruction(*part, errors))
    expected, verdicts = plain.verdicts(rows[:50]), both.verdicts(rows[:50], None, errors[:50] * 9)
    np.testing.assert_array_equal(verdicts.score, expected.score)
    np.testing.assert_array_equal(verdicts.p, expected.p)
    assert set(verdicts.components) == {"contrast", "reconstruction"}
    away = (errors[:50] * 9 - np.median(errors)) / (np.subtract(*np.percentile(errors, [75, 25])) / 1.349)
    np.testing.assert_allclose(verdicts.components["reconstruction"], away, rtol=1e-4)
