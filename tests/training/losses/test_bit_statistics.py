"""Quantisation, balance and covariance against plain numpy."""

import numpy as np
import pytest
import torch

from medlike.training.losses.bit_balance import bit_balance
from medlike.training.losses.bit_covariance import bit_covariance
from medlike.training.losses.quantisation import quantisation


def codes():
    return torch.randn(11, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_quantisation_is_the_mean_angle_to_equal_magnitudes():
    u = codes()
    h = np.abs(np.tanh(u.numpy()))
    cosine = h.sum(axis=1) / (np.linalg.norm(h, axis=1) * np.sqrt(8))
    assert float(quantisation(u)) == pytest.approx(np.log(1 + (1 - cosine) / 2).mean())
    assert float(quantisation(u.sign() * 0.3)) == pytest.approx(0, abs=1e-7)


def test_balance_is_the_squared_mean_bit():
    u = codes()
    assert float(bit_balance(u)) == pytest.approx((np.tanh(u.numpy()).mean(axis=0) ** 2).mean())
    assert float(bit_balance(torch.cat([u, -u]))) == pytest.approx(0, abs=1e-12)


def test_covariance_leaves_the_diagonal_out():
    u = codes()
    matrix = np.cov(np.tanh(u.numpy()).T, bias=True)
    off = matrix[~np.eye(8, dtype=bool)]
    assert float(bit_covariance(u)) == pytest.approx((off**2).mean())
    repeated = u[:, :1].expand(-1, 8)
    assert bit_covariance(repeated) > 5 * bit_covariance(u)


@pytest.mark.parametrize("loss", [quantisation, bit_balance, bit_covariance])
def test_gradients_agree_with_differences(loss):
    assert torch.autograd.gradcheck(loss, codes().requires_grad_(True), atol=1e-7)


@pytest.mark.parametrize("loss", [quantisation, bit_balance, bit_covariance])
@pytest.mark.parametrize("rows", [0, 1])
def test_tiny_batches_and_zero_codes_are_finite(loss, rows):
    u = torch.zeros(rows, 8, requires_grad=True)
    value = loss(u)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(u.grad).all()
