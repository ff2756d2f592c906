"""Bit balance: every bit should be on for half of the images."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.training.losses.similarity import precise


def bit_balance(u: Tensor) -> Tensor:
    """Return the mean over bits of the squared batch mean of tanh u: scalar in [0,1]; u float [B,K]."""
    return torch.tanh(precise(u)).mean(dim=0).square().mean() if len(u) else u.sum()
