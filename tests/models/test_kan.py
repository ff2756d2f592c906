"""Spline bases against the recursion of Cox and de Boor, and layers against their sum."""

import torch
import torch.nn.functional as F

from medlike.models.kan import KANLayer, spline_bases


def cox_de_boor(x, knots, k, degree):
    if degree == 0:
        return 1.0 if knots[k] <= x < knots[k + 1] else 0.0
    left = (x - knots[k]) / (knots[k + degree] - knots[k]) * cox_de_boor(x, knots, k, degree - 1)
    right = (knots[k + degree + 1] - x) / (knots[k + degree + 1] - knots[k + 1])
    return left + right * cox_de_boor(x, knots, k + 1, degree - 1)


def test_bases_are_the_recursion_of_cox_and_de_boor():
    knots = [-1 + 0.4 * (i - 3) for i in range(12)]
    x = torch.linspace(-2.5, 2.5, 101, dtype=torch.float64) + 1e-9
    expected = torch.tensor([[cox_de_boor(float(v), knots, k, 3) for k in range(8)] for v in x])
    torch.testing.assert_close(spline_bases(x), expected.double(), atol=1e-6, rtol=1e-6)
    inside = x.abs() <= 1
    torch.testing.assert_close(spline_bases(x)[inside].sum(1), torch.ones(int(inside.sum())).double())


def test_a_layer_is_the_sum_of_base_and_splines():
    torch.manual_seed(0)
    layer = KANLayer(3, 2, normalise=False)
    x = torch.rand(4, 3) * 2 - 1
    bases = spline_bases(x)
    expected = torch.zeros(4, 2)
    for n in range(4):
        for o in range(2):
            for i in range(3):
                expected[n, o] += layer.base_weight[o, i] * F.silu(x[n, i])
                for k in range(8):
                    expected[n, o] += layer.spline_weight[o, i, k] * layer.spline_scale[o, i] * bases[n, i, k]
    torch.testing.assert_close(layer(x), expected)


def test_raw_inputs_outside_the_grid_lose_their_splines_and_ours_do_not():
    x = torch.tensor([[5.0, -7.0, 30.0, 4.0]])
    for normalise, silent in ((False, True), (True, False)):
        layer = KANLayer(4, 3, normalise)
        layer(x).sum().backward()
        assert bool((layer.spline_weight.grad == 0).all()) is silent


def test_a_silenced_layer_gives_zero_and_still_learns():
    layer = KANLayer(6, 3)
    layer.silence()
    y = layer(torch.randn(5, 6))
    assert torch.equal(y, torch.zeros(5, 3))
    y.sum().backward()
    assert layer.base_weight.grad.abs().max() > 0
    assert layer.spline_weight.grad.abs().max() > 0
