"""SCH, structure-aware contrastive hashing.

Pairs of one class are pulled together, the more the more alike they look; pairs of two classes are pushed apart,
hardest where they look alike.

Nan et al. 2025 (arXiv 2503.09370). With f the 16x16 fingerprint and H_ij the similarity of two fingerprints,

    L_c = mean_ij w_ij [ H_ij s_ij (-log(1 - d_ij)) - exp(H_ij) (1 - s_ij) log d_ij ],

s_ij = 1 for the same class. Same class but unlike is hardly forced together. `released` is the published
code, `corrected` (ours) mends its defects: it centres fingerprints, bounds d, tames w, gives the
quantisation a gradient and keeps bits balanced and uncorrelated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.bit_balance import bit_balance
from medlike.training.losses.bit_covariance import bit_covariance
from medlike.training.losses.quantisation import quantisation
from medlike.training.losses.similarity import (
    check_codes,
    cosine_matrix,
    known_pairs,
    mean_over,
    pearson_matrix,
    precise,
)

BINS = 20
VARIANTS = ("corrected", "released")
STRUCTURES = ("fingerprint", "shuffled", "one", "mean")
# d is kept this far from 0 and 1 (corrected); the released code only avoids log 0.
MARGIN = 1e-4
TINY = 1e-7
WEIGHT_CAP = 10.0


@dataclass(frozen=True)
class SCHSettings:
    """Settings of the loss.

    variant: "corrected" or "released". alpha: weight of quantisation.

    structure: what H is: "fingerprint", or a control: "shuffled" (fingerprints of other images), "one", "mean"
    (the mean H of the batch for every pair). balance, covariance: weights of the bit statistics (corrected only).
    """

    variant: Literal["corrected", "released"] = "corrected"
    alpha: float = 0.5
    structure: Literal["fingerprint", "shuffled", "one", "mean"] = "fingerprint"
    balance: float = 0.05
    covariance: float = 0.05

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise TrainingError(f"SCH variant {self.variant!r} is unknown; known: {', '.join(VARIANTS)}")
        if self.structure not in STRUCTURES:
            raise TrainingError(f"structure {self.structure!r} is unknown; known: {', '.join(STRUCTURES)}")


@dataclass(frozen=True)
class SCHLoss:
    """The loss and what it is made of, scalars; no part but total carries its weight.

    histogram: float32 [2,20], pairs by H in 20 equal bins of [0,1]; row 0 same class, row 1 other class.
    """

    total: Tensor
    contrast: Tensor
    quantisation: Tensor
    balance: Tensor
    covariance: Tensor
    histogram: Tensor

    def parts(self) -> dict[str, Tensor]:
        """Return the scalars by name."""
        return {
            "total": self.total,
            "contrast": self.contrast,
            "quantisation": self.quantisation,
            "balance": self.balance,
            "covariance": self.covariance,
        }


def class_weights(sizes: Sequence[int] | Tensor) -> Tensor:
    """Return g_c = N / (n_c C), float32 [C], from the number of training images of each class; 0 for an empty one."""
    n = torch.as_tensor(sizes, dtype=torch.float64)
    filled = n > 0
    weights = n.sum() / (n.clamp(min=1) * filled.sum().clamp(min=1))
    return (weights * filled).float()


def structure_matrix(fingerprints: Tensor, settings: SCHSettings, counted: Tensor) -> Tensor:
    """Return H, float [B,B], of fingerprints [B,F] or [B,s,s] of any number type; in [0,1] for grey images.

    released: cosine of the raw values. corrected: max(0, Pearson). Controls as the settings say.
    """
    f = precise(fingerprints.detach().flatten(1))
    if settings.structure == "shuffled":
        f = f[torch.randperm(len(f), device=f.device)]
    h = cosine_matrix(f) if settings.variant == "released" else F.relu(pearson_matrix(f))
    if settings.structure == "one":
        return torch.ones_like(h)
    if settings.structure == "mean":
        return mean_over(h, counted).expand_as(h)
    return h


def sch(
    u: Tensor,
    labels: Tensor,
    fingerprints: Tensor,
    settings: SCHSettings = SCHSettings(),
    weights: Tensor | None = None,
) -> SCHLoss:
    """Return the SCH loss of a batch and its parts.

    Args:
        u: float [B,K], real codes.
        labels: int64 [B], below 0 where unknown.
        fingerprints: [B,F] or [B,s,s], of the un-augmented images for `corrected`, of the augmented ones for
            `released`.
        settings: The variant and the weights of its terms.
        weights: g_c, float [C], see `class_weights`; None weighs every class alike, as class-balanced sampling wants.

    Returns:
        The loss, its terms without their weights, and the histogram of pairs by H.

    Raises:
        TrainingError: The shapes do not fit each other.
    """
    check_codes(u, labels)
    if fingerprints.shape[:1] != u.shape[:1] or fingerprints.ndim < 2:
        raise TrainingError(f"fingerprints must be [{u.shape[0]},F]; got {list(fingerprints.shape)}")
    u = precise(u)
    released = settings.variant == "released"
    counted, same = known_pairs(labels, diagonal=released)
    h = structure_matrix(fingerprints, settings, counted).to(u.dtype)
    if released:
        d = ((1 - pearson_matrix(u)) / 2).clamp(TINY, 1 - TINY)
    else:
        d = ((1 - cosine_matrix(torch.tanh(u))) / 2).clamp(MARGIN, 1 - MARGIN)
    pairs = torch.where(same, -h * torch.log1p(-d), -torch.exp(h) * torch.log(d))
    if weights is not None:
        pairs = pairs * _pair_weights(weights.to(u), labels, counted, released)
    contrast = mean_over(pairs, counted)
    if released:
        quantised, total = _released_quantisation(u), contrast
        balance = covariance = torch.zeros_like(contrast)
    else:
        quantised, balance, covariance = quantisation(u), bit_balance(u), bit_covariance(u)
        total = contrast + settings.balance * balance + settings.covariance * covariance
    return SCHLoss(
        total=total + settings.alpha * quantised,
        contrast=contrast,
        quantisation=quantised,
        balance=balance,
        covariance=covariance,
        histogram=_histogram(h, counted, same),
    )


def _pair_weights(weights: Tensor, labels: Tensor, counted: Tensor, released: bool) -> Tensor:
    g = weights[labels.clamp(min=0)]
    w = g[:, None] * g[None]
    if released:
        return w
    return (w / mean_over(w, counted).clamp(min=TINY)).clamp(max=WEIGHT_CAP)


def _released_quantisation(u: Tensor) -> Tensor:
    """log(1 + d(|u|, 1)) with the centred d: centring the ones gives zero, so d = 1/2 and no gradient."""
    return torch.full_like(u[:, 0], math.log(1.5)).mean() if len(u) else u.sum()


def _histogram(h: Tensor, counted: Tensor, same: Tensor) -> Tensor:
    """Unordered pairs by H: float32 [2,BINS]; the diagonal is left out."""
    with torch.no_grad():
        upper = torch.triu(counted, diagonal=1)
        bins = (h * BINS).nan_to_num().long().clamp(0, BINS - 1)
        place = bins + BINS * (~same).long()
        filled = torch.zeros(2 * BINS, device=h.device)
        filled.scatter_add_(0, place.flatten(), upper.flatten().float())
        return filled.reshape(2, BINS)
