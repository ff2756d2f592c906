"""Quantisation: real codes should sit near -1 and +1."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.training.losses.similarity import precise


def quantisation(u: Tensor) -> Tensor:
    """Return the mean of log(1 + (1 - cos(|tanh u|, 1)) / 2), scalar in [0, log 1.5); u float [B,K].

    Zero where all bits of a code have the same magnitude; the corrected form of the published term.
    """
    magnitude = torch.tanh(precise(u)).abs()
    cosine = magnitude.sum(dim=1) / (magnitude.norm(dim=1) * u.shape[1] ** 0.5).clamp(min=1e-8)
    return torch.log1p((1 - cosine).clamp(min=0) / 2).mean() if len(u) else u.sum()
