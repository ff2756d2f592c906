"""The map to outlier features, the rows that fit it, and the weights of the components."""

import numpy as np
import pytest
import torch

from medlike.training.outlier_fit import (
    choose_weights,
    fit_outlier_map,
    map_settings,
    one_of_each,
    settings_with,
    spread_rows,
)

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


def test_a_component_that_only_adds_noise_gets_no_weight():
    random = np.random.default_rng(0)
    usual = np.stack([random.normal(size=400), 6 * random.normal(size=400)], 1).astype(np.float32)
    strange = np.stack([random.normal(5, 1, 80), 6 * random.normal(size=80)], 1).astype(np.float32)
    weights, left_out = choose_weights(usual, strange, ["a"] * 40 + ["b"] * 40)
    assert weights[0] > 0 and weights[1] == 0
    assert set(left_out) == {"a", "b"} and all(row["auroc"] > 0.99 for row in left_out.values())


def test_weights_for_a_kind_are_chosen_without_it():
    """Each kind is seen by one component; weights chosen on the other kind do not find it."""
    random = np.random.default_rng(0)
    usual = random.normal(size=(400, 2)).astype(np.float32)
    first = np.stack([random.normal(9, 0.5, 50), np.full(50, -9.0)], 1)
    second = np.stack([np.full(50, -9.0), random.normal(9, 0.5, 50)], 1)
    _, left_out = choose_weights(usual, np.concatenate([first, second]).astype(np.float32), ["a"] * 50 + ["b"] * 50)
    assert left_out["a"]["auroc"] < 0.1 and left_out["b"]["auroc"] < 0.1


def test_one_kind_leaves_the_weights_equal():
    both = np.zeros((4, 2), np.float32)
    assert choose_weights(both, both, ["a"] * 4) == ((1.0, 1.0), {})
    assert settings_with((0.5, 2.0)).weights == (0.5, 2.0, 1.0)
