"""The hybrid gating loss: experts used alike, and logits kept small."""

from __future__ import annotations

from torch import Tensor

from medlike.models.mcmfh_parts import chosen_weights
from medlike.training.losses.similarity import precise


def gating(logits: Tensor, chosen: int = 2, router: float = 0.1) -> Tensor:
    """Return E sum_e f_e P_e + CV^2(importance) + router mean(logsumexp^2): scalar; logits float [..., E] of a gate.

    f_e: share of the choices that fell on expert e; P_e: mean of its softmax over all experts; importance: sum over
    tokens of what the softmax gives it, CV its standard deviation over its mean. The first is 1 and the second 0 where
    all experts are used alike. Sources: load balance, Fedus et al. 2022; importance, Shazeer et al. 2017; router
    z-loss, Zoph et al. 2022. Zero for one expert but for the last term.
    """
    flat = precise(logits).reshape(-1, logits.shape[-1])
    experts = flat.shape[1]
    if not len(flat):
        return flat.sum()
    probability = flat.softmax(dim=1)
    taken = (chosen_weights(flat, min(chosen, experts)) > 0).to(flat.dtype)
    share = taken.sum(dim=0) / taken.sum()
    balance = experts * (share.detach() * probability.mean(dim=0)).sum()
    importance = probability.sum(dim=0)
    spread = importance.var(unbiased=False) / importance.mean().square()
    return balance + spread + router * flat.logsumexp(dim=1).square().mean()
