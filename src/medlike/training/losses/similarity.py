"""Similarities between all rows of a batch, and which pairs count."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError


def precise(x: Tensor) -> Tensor:
    """Return float64 as it is, everything else as float32."""
    return x if x.dtype == torch.float64 else x.float()


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return a b^T in full precision, also under autocast: [N,D], [M,D] -> [N,M]."""
    with torch.autocast(a.device.type, enabled=False):
        return precise(a) @ precise(b).T


def cosine_matrix(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Return the cosine of every row of a with every row of b (or of a): [N,D], [M,D] -> [N,M] in [-1,1].

    A row of zeros has cosine zero with everything.
    """
    unit = F.normalize(precise(a), dim=1)
    return inner(unit, unit if b is None else F.normalize(precise(b), dim=1))


def pearson_matrix(a: Tensor) -> Tensor:
    """Return the correlation of every two rows, [N,D] -> [N,N] in [-1,1]; that of a constant row is zero."""
    a = precise(a)
    centred = a - a.mean(dim=1, keepdim=True)
    # Rounding leaves specks where a row is constant; scaling must not amplify them to unit length.
    speck = centred.norm(dim=1, keepdim=True) <= 1e-6 * a.norm(dim=1, keepdim=True)
    return cosine_matrix(centred.masked_fill(speck, 0.0))


def check_codes(u: Tensor, labels: Tensor) -> None:
    """Raise TrainingError unless u is float [B,K] and labels integer [B]."""
    if u.ndim != 2 or not u.is_floating_point():
        raise TrainingError(f"codes must be float [B,K]; got {u.dtype} {list(u.shape)}")
    if labels.shape != u.shape[:1] or labels.is_floating_point():
        raise TrainingError(f"labels must be integers [{u.shape[0]}]; got {labels.dtype} {list(labels.shape)}")


def known_pairs(labels: Tensor, diagonal: bool = False) -> tuple[Tensor, Tensor]:
    """Return which pairs count and which of them share a class, bool [B,B] each; labels below 0 never count."""
    known = labels >= 0
    counted = known[:, None] & known[None]
    if not diagonal:
        counted = counted & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return counted, counted & (labels[:, None] == labels[None])


def mean_over(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of values where counted; zero where nothing is."""
    return torch.where(counted, values, torch.zeros_like(values)).sum() / counted.sum().clamp(min=1)


def balanced_weights(counted: Tensor, same: Tensor) -> Tensor:
    """Return weights, float [B,B], mean 1 over counted, by which same-class and other-class pairs weigh alike."""
    pairs = counted.sum().float()
    alike = same.sum().float()
    positive = torch.where(alike > 0, pairs / (2 * alike.clamp(min=1)), torch.zeros_like(pairs))
    unlike = pairs - alike
    negative = torch.where(unlike > 0, pairs / (2 * unlike.clamp(min=1)), torch.zeros_like(pairs))
    return torch.where(same, positive, negative) * counted


def require_finite(parts: Mapping[str, Tensor]) -> None:
    """Raise TrainingError naming the parts of a loss that are not finite. Waits for the device."""
    bad = [name for name, value in parts.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise TrainingError(
            f"the loss is not finite in {', '.join(bad)}; lower the learning rate or look at the batch's images"
        )
