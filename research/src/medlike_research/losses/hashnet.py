"""HashNet (Cao et al., ICCV 2017): weighted likelihood of pairs, with a tanh that sharpens during training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.training.losses.similarity import (
    balanced_weights,
    check_codes,
    inner,
    known_pairs,
    mean_over,
    precise,
)


def hashnet(u: Tensor, labels: Tensor, sharpness: float = 1.0, alpha: float | None = None) -> Tensor:
    """Mean over pairs of w_ij (log(1 + exp(a)) - s_ij a), a = alpha g_i . g_j, g = tanh(sharpness u).

    u: float [B,K]; labels: int64 [B], below 0 unknown; alpha: 10 / K if None. Same-class and other-class
    pairs weigh alike in total. Scalar. `sharpness` is to rise during training, from 1 to 10 or more.
    """
    check_codes(u, labels)
    g = torch.tanh(sharpness * precise(u))
    a = (10.0 / u.shape[1] if alpha is None else alpha) * inner(g, g)
    counted, same = known_pairs(labels)
    return mean_over(balanced_weights(counted, same) * (F.softplus(a) - same * a), counted)
