"""DCH, deep Cauchy hashing: pairs within a small Hamming radius (Cao et al., CVPR 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.training.losses.similarity import (
    balanced_weights,
    check_codes,
    cosine_matrix,
    known_pairs,
    mean_over,
    precise,
)


def dch(u: Tensor, labels: Tensor, gamma: float = 20.0, strength: float = 0.1) -> Tensor:
    """Cauchy cross-entropy of pairs plus `strength` times Cauchy quantisation.

    With d_ij = K/2 (1 - cos(u_i, u_j)): mean of w_ij [s log(1 + d/gamma) + (1 - s) log(1 + gamma/d)], and
    log(1 + d(|u|, 1)/gamma). u: float [B,K]; labels: int64 [B], below 0 unknown; gamma: a radius in bits.
    Scalar.
    """
    check_codes(u, labels)
    u = precise(u)
    bits = u.shape[1]
    d = (bits / 2 * (1 - cosine_matrix(u))).clamp(min=1e-3)
    counted, same = known_pairs(labels)
    pairs = torch.where(same, torch.log1p(d / gamma), torch.log1p(gamma / d))
    magnitude = u.abs()
    cosine = magnitude.sum(dim=1) / (magnitude.norm(dim=1) * bits**0.5).clamp(min=1e-8)
    off = torch.log1p(bits / 2 * (1 - cosine).clamp(min=0) / gamma).sum() / max(len(u), 1)
    return mean_over(balanced_weights(counted, same) * pairs, counted) + strength * off
