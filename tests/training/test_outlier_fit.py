"""The map to outlier features and the rows that fit it."""

import numpy as np
import pytest
import torch

from medlike.training.outlier_fit import fit_outlier_map, map_settings, one_of_each, spread_rows

CHANNELS = (6, 10)


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    mixed = random.normal(size=(300, 5)) @ random.normal(size=(5, 16)) + 0.1 * random.normal(size=(300, 16)) + 3
    return mixed.astype(np.float32), random.normal(size=(300, 12)).astype(np.float32)


def test_the_map_centres_evens_out_and_scales(rows):
    pooled, feature = rows
    made = fit_outlier_map(pooled, feature, CHANNELS, ["a"] * 300, 4)
    with torch.no_grad():
        found = made(torch.from_numpy(pooled), torch.from_numpy(feature)).numpy()
    known = made.from_pooled.out_features
    assert found.shape == (300, known + 4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    for part in (found[:, :known], found[:, known:]):
        assert (part**2).sum(axis=1).mean() == pytest.approx(1, rel=1e-3)
        covariance = np.cov(part.T)
        np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-4)


def test_a_strange_row_lands_far_away(rows):
    pooled, feature = rows
    made = fit_outlier_map(pooled, feature, CHANNELS, ["a"] * 300, 4)
    with torch.no_grad():
        usual = made(torch.from_numpy(pooled), torch.from_numpy(feature)).norm(dim=1)
        strange = made(torch.full((1, 16), 40.0), torch.from_numpy(feature[:1])).norm(dim=1)
    assert strange.item() > 2 * usual.max().item()


def test_its_settings_build_it_again(rows):
    from medlike.models.outlier_map import OutlierMap

    made = fit_outlier_map(*rows, CHANNELS, ["a"] * 300, 4)
    again = OutlierMap(**map_settings(made))
    again.load_state_dict(made.state_dict())
    inputs = [torch.from_numpy(part[:3]) for part in rows]
    assert torch.equal(made(*inputs), again(*inputs))


def test_rows_are_spread_over_their_keys():
    keys = ["common"] * 90 + ["rare"] * 4 + ["other"] * 6
    chosen = spread_rows(np.arange(100), keys, 12, np.random.default_rng(0))
    counts = {key: sum(keys[row] == key for row in chosen) for key in set(keys)}
    assert counts == {"common": 4, "rare": 4, "other": 4}
    assert len(spread_rows(np.arange(100), keys, 500, np.random.default_rng(0))) == 100


def test_one_row_of_each_unit():
    units = np.array([3, 3, 7, 9, 9, 9])
    found = one_of_each(units, np.random.default_rng(1))
    assert sorted(units[found]) == [3, 7, 9] and (np.diff(found) > 0).all()
