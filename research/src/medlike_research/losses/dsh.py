"""DSH, deep supervised hashing (Liu et al., CVPR 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from medlike.training.losses.similarity import check_codes, inner, known_pairs, mean_over, precise


def dsh(u: Tensor, labels: Tensor, margin: float | None = None, alpha: float = 0.01) -> Tensor:
    """Half the squared distance of same-class pairs, half the hinge of the others, plus alpha (| |u| - 1 |).

    u: float [B,K]; labels: int64 [B], below 0 unknown; margin: squared distance from which other-class pairs
    are left alone, 2K if None. Scalar: mean over pairs i < j plus alpha times the mean over codes of the sum
    over bits.
    """
    check_codes(u, labels)
    u = precise(u)
    margin = 2.0 * u.shape[1] if margin is None else margin
    norms = u.square().sum(dim=1)
    squared = (norms[:, None] + norms[None] - 2 * inner(u, u)).clamp(min=0)
    counted, same = known_pairs(labels)
    pairs = 0.5 * same * squared + 0.5 * ~same * F.relu(margin - squared)
    regular = (u.abs() - 1).abs().sum(dim=1).sum() / max(len(u), 1)
    return mean_over(pairs, counted) + alpha * regular
