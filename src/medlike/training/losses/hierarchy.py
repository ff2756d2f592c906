"""Cross-entropy of the auxiliary classifiers, over every level of the label tree."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError
from medlike.training.losses.similarity import precise


def hierarchy_entropy(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], smoothing: float = 0.0) -> Tensor:
    """Return the mean over levels of the cross-entropy over images whose label is known: scalar.

    logits: level -> float [B,classes]; labels: level -> int64 [B], below 0 unknown. A level of which nothing
    is known in the batch adds zero. TrainingError where a level of the logits has no labels.
    """
    missing = sorted(set(logits) - set(labels))
    if missing:
        raise TrainingError(f"no labels for level {missing[0]!r}; the labels have {', '.join(sorted(labels))}")
    total = []
    for level, scores in logits.items():
        known = labels[level] >= 0
        entropy = F.cross_entropy(
            precise(scores), labels[level].clamp(min=0), reduction="none", label_smoothing=smoothing
        )
        total.append(torch.where(known, entropy, torch.zeros_like(entropy)).sum() / known.sum().clamp(min=1))
    return torch.stack(total).mean()
