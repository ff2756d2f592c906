"""The outlier part of a new bundle: which pictures it is fitted to, and which sources are left out."""

from dataclasses import replace

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample
from medlike.errors import TrainingError
from medlike.inference.outlier import OutlierScorer
from medlike.training.drawn_outliers import KINDS
from medlike.training.verdict import KnownImages, fit_verdict, predicted, runtime_outputs

NOTHING = Dataset("nothing", ())


@pytest.fixture(scope="module")
def known(tiny_bundle, tiny_pictures):
    """160 pictures of two sources that share their modality; every second one calibrates."""
    outputs = runtime_outputs(tiny_bundle, tiny_pictures(160, seed=4))
    features = outputs["outlier_features"]
    samples = [
        Sample(f"{n}.png", f"{n}.png", label="x", source=("east", "west")[n // 80], modality="CT") for n in range(160)
    ]
    calibrating = np.arange(160) % 2 == 1
    return KnownImages(
        samples, features, features.shape[1] - 1, np.arange(160), predicted(tiny_bundle, outputs), calibrating
    )


def sourced(known, sources, modalities):
    """Return the same images of other sources and modalities, in equal runs."""
    run = 160 // len(sources)
    samples = [
        replace(s, source=sources[n // run], modality=modalities[n // run]) for n, s in enumerate(known.samples)
    ]
    return replace(known, samples=samples)


def fit(bundle, known):
    return fit_verdict(bundle, known, NOTHING, np.random.default_rng(0))


def test_drawn_pictures_serve_where_a_collection_brings_no_outliers(tiny_bundle, known):
    arrays, facts = fit(tiny_bundle, known)
    assert set(facts["outlier_kinds"]) == set(KINDS) == set(facts["kinds_left_out"])
    assert facts["outlier_images"] == 5 * len(KINDS)
    assert facts["calibration_units"]["pooled"] == 160 and "calibrated_on_units" not in facts
    assert arrays["outlier.direction"][-1] == 0 and (arrays["outlier.direction"][:-1] != 0).all()
    assert OutlierScorer(arrays, facts).verdicts(known.features).is_outlier.mean() < 0.1


@pytest.mark.slow
def test_only_sources_that_share_a_modality_are_left_out_whole(tiny_bundle, known):
    _, facts = fit(tiny_bundle, sourced(known, ["a", "b", "c", "d"], ["CT", "CT", "MR", "US"]))
    assert facts["calibrated_on_units"] == ["c", "d"] and facts["calibration_origins"] == 4
    assert facts["calibration_units"]["pooled"] == 80 + 40
    _, facts = fit(tiny_bundle, sourced(known, ["a"], ["CT"]))
    assert facts["calibrated_on_units"] == ["a"] and facts["calibration_units"]["pooled"] == 80


def test_too_few_units_to_calibrate_are_refused(tiny_bundle, known):
    few = replace(known, calibrating=np.arange(160) < 20)
    with pytest.raises(TrainingError, match="20 units for calibration, 34 needed"):
        fit(tiny_bundle, few)
