"""Contrast between two views of the same pairs, with several positives a row."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import inner, precise


def pair_contrast(a: Tensor, b: Tensor, positive: Tensor, scale: Tensor | float) -> Tensor:
    """Return the mean over both directions of - mean_{j positive to i} log softmax_j(scale <a_i, b_j>).

    A scalar of at least 0.

    a, b: float [B, D] of unit length, row i of both from pair i. positive: [B, B], which pairs belong together (the
    diagonal among them): bool, or float weights of at least 0 by which the mean is taken. scale: 1 / temperature.
    Source: InfoNCE (van den Oord et al. 2018) with the positives averaged outside the logarithm (Khosla et al. 2020).
    """
    if a.shape != b.shape or positive.shape != (len(a), len(a)):
        raise TrainingError(f"views {list(a.shape)} and {list(b.shape)} do not fit positives {list(positive.shape)}")
    if not len(a):
        return a.sum()
    scores = inner(precise(a), precise(b)) * scale
    weights = positive.to(scores.dtype)
    return (_one_way(scores, weights) + _one_way(scores.T, weights.T)) / 2


def three_view_contrast(
    image: Tensor, text: Tensor, both: Tensor, positive: Tensor, scale: Tensor | float, with_both: float = 0.5
) -> Tensor:
    """Contrast image-only with text-only, and each of them with both, weighted `with_both`; see `pair_contrast`.

    The two sides are never seen together by both members of the first contrast, so it cannot be solved by copying.
    """
    beside = pair_contrast(image, both, positive, scale) + pair_contrast(text, both, positive, scale)
    return pair_contrast(image, text, positive, scale) + with_both * beside


def _one_way(scores: Tensor, weights: Tensor) -> Tensor:
    logs = torch.log_softmax(scores, dim=1)
    return -((logs * weights).sum(dim=1) / weights.sum(dim=1)).mean()
