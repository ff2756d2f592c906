"""Where training starts: typicality, fitted without labels, and the first code of typical and of other images."""

import numpy as np
import pytest
import torch

from medlike.models.networks import build
from medlike.models.typicality import Typicality
from medlike.training.start import CODE_SHARE, TYPICAL, WIDTH, fit_typicality, start_code, start_from_pooled


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
    assert np.isclose(float(fitted.width), WIDTH * float(distances.std()))


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


def _code_parts(network, random, count):
    """Unit parts of made-up images, the learned one a function of the linear one, and code_parts by typicality."""
    learned = random.normal(size=(network.linear_width, network.learned_width))
    untouched = random.normal(size=(count, network.linear_width)) * np.linspace(3, 0.5, network.linear_width)
    untouched /= np.linalg.norm(untouched, axis=1, keepdims=True)
    said = np.tanh(20 * untouched @ learned / np.sqrt(len(learned)))
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    share = float(network.share)

    def parts(typical):
        g = np.broadcast_to(np.float64(typical), (count,))[:, None]
        return np.concatenate([share * g * said, untouched, g * untouched, g], axis=1).astype(np.float32)

    return said, untouched, parts


@pytest.mark.parametrize("bits", [16, 64, 192])
def test_the_first_code_is_one_map_for_typical_images_and_another_for_others(bits):
    random = np.random.default_rng(3)
    network = build("compact", bits, 5)
    said, untouched, parts = _code_parts(network, random, 700)
    start_code(network, parts(random.uniform(0.3, 1, 700)), ["a"] * 400 + ["b"] * 300, 0.1, 0)

    def code(typical):
        return network.hash_head.direct(torch.from_numpy(parts(typical))).detach().numpy()

    typical, other, between = code(1.0), code(0.0), code(0.25)
    np.testing.assert_allclose(between, 0.25 * typical + 0.75 * other, atol=1e-3)  # a straight way between them
    # Typical images: a linear map of learned and linear part; others: of the linear part alone.
    for found, inputs in ((typical, np.concatenate([said, untouched], axis=1)), (other, untouched)):
        known = np.concatenate([inputs, np.ones((700, 1))], axis=1)
        missed = found - known @ np.linalg.lstsq(known, found, rcond=None)[0]
        assert np.abs(missed).max() < 1e-2
        assert np.isclose(np.abs(found).mean(), 1, atol=0.02)
        assert np.abs((found > 0).mean(axis=0) - 0.5).max() < 0.25  # no dead bits
    # The two agree well above chance, or a typical and an untypical image of a kind would have nothing in common.
    assert ((typical > 0) == (other > 0)).mean() > 0.6


@pytest.mark.parametrize("bits", [64, 512])
def test_a_linear_part_of_few_directions_gives_any_number_of_bits(bits):
    random = np.random.default_rng(7)
    network = build("compact", bits, 5)
    _, untouched, parts = _code_parts(network, random, 300)
    untouched[:, 20:] = 0  # as where there are few labels and little varies
    start_code(network, parts(0.5), ["a"] * 300, 0.0, 0)
    assert torch.isfinite(network.hash_head.direct.weight).all()
    network.share.fill_(0.0)  # `--set share=0`: no learned part at all
    start_code(network, parts(0.5), ["a"] * 300, 0.0, 0)
    assert torch.isfinite(network.hash_head.direct.weight).all()


def test_the_learned_part_weighs_in_the_first_code_as_it_says():
    random = np.random.default_rng(4)
    network = build("compact", 64, 5)
    said, untouched, parts = _code_parts(network, random, 600)
    start_code(network, parts(1.0), ["a"] * 600, 0.0, 0)
    code = network.hash_head.direct(torch.from_numpy(parts(1.0))).detach().numpy()
    blended = np.concatenate([CODE_SHARE * said, untouched], axis=1)
    blended = blended - blended.mean(axis=0)
    # A rotation of the leading directions keeps the distances among them, up to one scale.
    directions = np.linalg.svd(blended, full_matrices=False)[2][:64].T
    kept = blended @ directions
    assert np.corrcoef(((kept[:300] - kept[300:]) ** 2).sum(1), ((code[:300] - code[300:]) ** 2).sum(1))[0, 1] > 0.999


def test_without_typicality_the_first_code_is_one_rotation_of_the_feature():
    random = np.random.default_rng(5)
    network = build("compact", 16, 5)
    settings = network.settings
    network = build(type(settings)(**{**vars(settings), "typical_centres": 0}), 16, 5)
    assert network.code_width == network.feature_width
    rows = random.normal(size=(200, network.code_width)).astype(np.float32)
    start_code(network, rows, ["a"] * 200, 0.0, 0)
    code = network.hash_head.direct(torch.from_numpy(rows)).detach().numpy()
    assert np.abs(code.mean(axis=0)).max() < 1e-4 and np.isclose(np.abs(code).mean(), 1, atol=1e-3)


def test_the_linear_part_tells_labels_apart_where_they_are_known():
    random = np.random.default_rng(6)
    network = build("compact", 16, 5)
    count, width = 400, network.pooled_width
    labels = np.arange(count) % 5 - 1  # one in five is unknown
    apart = random.normal(size=(4, width))
    pooled = random.normal(size=(count, width)) * 3 + np.where(labels[:, None] < 0, 0, apart[labels])
    start_from_pooled(network, pooled.astype(np.float32), ["a"] * count, labels, 0.5)
    with torch.no_grad():
        found = network.encode(None, None, torch.from_numpy(pooled).float())["feature"].numpy()
    linear = found[:, network.learned_width :]
    principal, told = linear[:, : network.settings.linear], linear[:, network.settings.linear :]
    np.testing.assert_allclose(np.linalg.norm(principal, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(told, axis=1), 1, atol=1e-5)
    assert not told[:, 3:].any()  # four labels lie in three directions
    known = labels >= 0
    same = labels[known][:, None] == labels[known][None]

    def gap(rows):
        likeness = rows[known] @ rows[known].T
        return likeness[same].mean() - likeness[~same].mean()

    assert gap(told) > 3 * gap(principal) > 0
