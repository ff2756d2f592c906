"""The contrast between views of pairs, against loops over explicit pairs."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.pair_contrast import pair_contrast, three_view_contrast


def views(count=5, width=4, number=3):
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randn(count, width, generator=generator, dtype=torch.float64) for _ in range(number)]
    return [x / x.norm(dim=1, keepdim=True) for x in drawn]


CASES = torch.tensor([0, 1, 0, 2, 1])
POSITIVE = CASES[:, None] == CASES[None]


def slow(a, b, positive, scale):
    """Both directions: for each row the mean over its positives of -log of their share."""
    total = 0.0
    count = len(a)
    for one, other, wanted in ((a, b, positive), (b, a, positive.T)):
        for i in range(count):
            shares = [math.exp(scale * float(one[i] @ other[j])) for j in range(count)]
            logs = [-math.log(shares[j] / sum(shares)) for j in range(count)]
            weights = [float(wanted[i, j]) for j in range(count)]
            total += sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)
    return total / (2 * count)


def test_contrast_is_that_of_explicit_pairs():
    a, b, _ = views()
    for scale in (0.5, 1.0, 14.0):
        assert float(pair_contrast(a, b, POSITIVE, scale)) == pytest.approx(slow(a, b, POSITIVE, scale))


def test_positives_may_be_weights():
    a, b, _ = views()
    weights = torch.rand(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert float(pair_contrast(a, b, weights, 3.0)) == pytest.approx(slow(a, b, weights, 3.0))


def test_three_views_weigh_the_two_single_sides_twice():
    image, text, both = views()
    expected = slow(image, text, POSITIVE, 2.0)
    expected += 0.5 * (slow(image, both, POSITIVE, 2.0) + slow(text, both, POSITIVE, 2.0))
    assert float(three_view_contrast(image, text, both, POSITIVE, 2.0)) == pytest.approx(expected)


def test_the_loss_is_least_where_cases_meet():
    eye = torch.eye(3, dtype=torch.float64)[CASES]
    met = float(pair_contrast(eye, eye, POSITIVE, 50.0))
    apart = float(pair_contrast(eye, eye.roll(1, dims=0), POSITIVE, 50.0))
    # Two positives share what a row gives: -log 1/2 is the least that they can have.
    assert met == pytest.approx((2 * math.log(2) * 2 + 0) / 5, abs=1e-6)
    assert apart > met + 1


def test_gradients_reach_both_views_and_the_temperature():
    a, b, _ = views()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    a.requires_grad_(True), b.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x, y, s: pair_contrast(x, y, POSITIVE, s), (a, b, scale), atol=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    a, b, _ = views()
    with pytest.raises(TrainingError, match=r"views \[5, 4\] and \[4, 4\] do not fit"):
        pair_contrast(a, b[:4], POSITIVE, 1.0)
