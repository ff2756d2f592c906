"""DPSH, deep pairwise-supervised hashing (Li et al., IJCAI 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from medlike.training.losses.similarity import check_codes, inner, known_pairs, mean_over, precise


def dpsh(u: Tensor, labels: Tensor, eta: float = 0.1) -> Tensor:
    """Negative log likelihood of the pair labels under sigmoid(u_i . u_j / 2), plus eta (u - sign u)^2.

    u: float [B,K]; labels: int64 [B], below 0 unknown. Scalar: mean over pairs plus eta times the mean over
    bits.
    """
    check_codes(u, labels)
    u = precise(u)
    theta = inner(u, u) / 2
    counted, same = known_pairs(labels)
    pairs = F.softplus(theta) - same * theta
    regular = (u - u.detach().sign()).square().sum() / max(u.numel(), 1)
    return mean_over(pairs, counted) + eta * regular
