"""Typicality, fitted without labels: known images stay, unknown ones fade."""

import numpy as np
import torch

from medlike.models.typicality import Typicality
from medlike.training.start import TYPICAL, fit_typicality


def _clouds(random, means, count, spread=0.05):
    rows = np.concatenate([random.normal(mean, spread, (count, len(mean))) for mean in means])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _typical(fitted, rows):
    return fitted(torch.from_numpy(rows).float()).numpy()[:, 0]


def test_new_images_of_known_kinds_are_typical_and_unknown_kinds_are_not():
    random = np.random.default_rng(0)
    means = np.eye(12)[:6]
    rows = _clouds(random, means, 100)
    fitted = Typicality(12, 8)
    assert (_typical(fitted, rows) == 1).all()  # before the fit every image is typical
    fit_typicality(fitted, rows, np.ones(len(rows)))
    known, new = _typical(fitted, rows).mean(), _typical(fitted, _clouds(random, means, 40)).mean()
    assert known > 0.6 and abs(new - known) < 0.1
    assert _typical(fitted, _clouds(random, np.eye(12)[8:], 40)).max() < 0.05
    distances = fitted.distance(torch.from_numpy(rows).float())
    assert np.isclose(float((distances <= fitted.middle).float().mean()), TYPICAL, atol=0.005)


def test_the_distance_is_that_of_mahalanobis_to_the_nearest_centre():
    random = np.random.default_rng(1)
    rows = _clouds(random, np.eye(5)[:3], 60, 0.2)
    fitted = Typicality(5, 3)
    fit_typicality(fitted, rows, np.ones(len(rows)))
    back = np.linalg.inv(fitted.whitening.numpy().astype(np.float64))
    precision = np.linalg.inv(back.T @ back)
    centres = fitted.centres.numpy() @ back
    for row in rows[:10]:
        expected = min(np.sqrt((row - c) @ precision @ (row - c)) for c in centres)
        assert np.isclose(float(fitted.distance(torch.from_numpy(row[None]).float())), expected, atol=1e-3)


def test_a_few_pictures_get_fewer_centres_and_equal_ones_no_infinite_width():
    fitted = Typicality(4, 32)
    rows = np.eye(4)[np.arange(12) % 4]
    fit_typicality(fitted, rows, np.ones(12))
    assert all(torch.isfinite(found).all() for found in fitted.state_dict().values())
    assert len(np.unique(fitted.centres.numpy().round(4), axis=0)) <= 4
    assert np.isfinite(_typical(fitted, rows)).all()
