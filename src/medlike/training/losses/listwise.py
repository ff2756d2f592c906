"""The gate's loss: relevant candidates first, by the blended distance of both experts."""

from __future__ import annotations

import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import precise


def blended_distance(gate: Tensor, whole: Tensor, local: Tensor) -> Tensor:
    """Return g0 D_global + g1 D_local: gate [Q,2], distances [Q,M] as shares of differing bits -> [Q,M]."""
    return gate[:, :1] * whole + gate[:, 1:] * local


def listwise(distance: Tensor, relevance: Tensor, temperature: float = 0.05) -> Tensor:
    """Return the cross-entropy of softmax(-distance / temperature) to the relevant share (ListNet).

    Source: Cao et al., ICML 2007.

    Args:
        distance: float [Q,M], lower is better.
        relevance: float or bool [Q,M], at least 0.
        temperature: Above 0; the lower, the more the nearest candidates count.

    Returns:
        A scalar, the mean over queries that have a relevant candidate; zero where none has.

    Raises:
        TrainingError: The shapes do not fit, or the temperature is not above 0.
    """
    if distance.shape != relevance.shape or distance.ndim != 2:
        raise TrainingError(f"distance {list(distance.shape)} and relevance {list(relevance.shape)} must both be [Q,M]")
    if temperature <= 0:
        raise TrainingError(f"temperature must be above 0; got {temperature}")
    weights = precise(relevance)
    total = weights.sum(dim=1, keepdim=True)
    share = weights / total.clamp(min=1e-12)
    entropy = -(share * (-precise(distance) / temperature).log_softmax(dim=1)).sum(dim=1)
    answerable = total[:, 0] > 0
    return torch.where(answerable, entropy, torch.zeros_like(entropy)).sum() / answerable.sum().clamp(min=1)
