"""CSQ, central similarity quantisation: one fixed centre a class (Yuan et al., CVPR 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import check_codes, mean_over, precise

TRIES = 200


def hadamard(order: int) -> Tensor:
    """Sylvester's Hadamard matrix: float32 [order,order] of -1 and +1; order a power of two."""
    if order < 1 or order & (order - 1):
        raise TrainingError(f"a Hadamard matrix of order {order} is not to be had; use a power of two")
    matrix = torch.ones(1, 1)
    while len(matrix) < order:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def hash_centres(classes: int, bits: int, seed: int = 0) -> Tensor:
    """Centres far from each other: float32 [classes,bits] of -1 and +1.

    Rows of a Hadamard matrix and its negative where bits is a power of two and there are at most 2 bits
    classes; otherwise balanced random codes, each the best of 200 tries by its least distance to those
    before.
    """
    if classes < 1 or bits < 1:
        raise TrainingError(f"{classes} classes on {bits} bits have no centres; both must be at least 1")
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        rows = hadamard(bits)
        return torch.cat([rows, -rows])[:classes]
    generator = torch.Generator().manual_seed(seed)
    # Half of the bits on, in random places.
    half = torch.where(torch.arange(bits) < bits // 2, 1.0, -1.0)
    centres = half[torch.randperm(bits, generator=generator)][None]
    while len(centres) < classes:
        tries = half[torch.rand(TRIES, bits, generator=generator).argsort(dim=1)]
        nearest = ((bits - tries @ centres.T) / 2).amin(dim=1)
        centres = torch.cat([centres, tries[nearest.argmax()][None]])
    return centres


def csq(u: Tensor, labels: Tensor, centres: Tensor, strength: float = 1e-4) -> Tensor:
    """Binary cross-entropy of sigmoid-like bits (tanh u + 1) / 2 to the class centre, plus quantisation.

    u: float [B,K]; labels: int64 [B], below 0 unknown (left out); centres: [C,K] of -1 and +1. Quantisation
    is log cosh(|tanh u| - 1), weighted by `strength`. Scalar: mean over bits of known codes.
    """
    check_codes(u, labels)
    if centres.ndim != 2 or centres.shape[1] != u.shape[1]:
        raise TrainingError(f"centres {list(centres.shape)} do not fit codes of {u.shape[1]} bits")
    u = precise(u)
    target = (centres.to(u)[labels.clamp(min=0)] + 1) / 2
    # (tanh u + 1) / 2 = sigmoid(2 u), which is stable in this form.
    entropy = F.binary_cross_entropy_with_logits(2 * u, target, reduction="none").mean(dim=1)
    off = torch.log(torch.cosh(torch.tanh(u).abs() - 1)).mean(dim=1)
    return mean_over(entropy + strength * off, labels >= 0)
