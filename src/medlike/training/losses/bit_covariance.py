"""Bit covariance: no bit should repeat another."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.training.losses.similarity import inner, precise


def bit_covariance(u: Tensor) -> Tensor:
    """Return the mean square of the off-diagonal covariances of tanh u over the batch: scalar in [0,1]; u float [B,K].

    Zero for fewer than two images or bits.
    """
    h = torch.tanh(precise(u))
    n, bits = h.shape
    if n < 2 or bits < 2:
        return h.sum() * 0
    centred = h - h.mean(dim=0)
    covariance = inner(centred.T, centred.T) / n
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / (bits * (bits - 1))
