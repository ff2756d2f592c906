"""What a batch is judged by: the hash loss and what goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError
from medlike.plugins import LOSSES, load, plugins
from medlike.training.feed import Outputs
from medlike.training.losses.hierarchy import hierarchy_entropy
from medlike.training.losses.quantisation import quantisation
from medlike.training.losses.sch import SCHSettings, class_weights, sch
from medlike.training.losses.similarity_preservation import relational_error
from medlike.training.recipe import Recipe

LEVEL = "label"


@dataclass(frozen=True)
class Judged:
    """total: the scalar to step on; parts: its terms, unweighted; histogram: pairs by H [2,20], SCH only."""

    total: Tensor
    parts: dict[str, float]
    histogram: Tensor | None = None


HashLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]


def _sch(settings: SCHSettings, weights: Tensor | None) -> HashLoss:
    def loss(u: Tensor, labels: Tensor, fingerprints: Tensor) -> tuple[Tensor, Tensor]:
        computed = sch(u, labels, fingerprints, settings, None if weights is None else weights.to(u.device))
        return computed.total, computed.histogram

    return loss


HASH_LOSSES = ("sch", "sch-released", "sch-shuffled", "sch-mean", "sch-one", "sch-alpha-A")


def hash_loss(name: str, bits: int, sizes: list[int], tempered: bool) -> HashLoss:
    """Return the named loss: (u, labels, fingerprints) -> scalar and histogram.

    name: one of HASH_LOSSES, or a loss that a package adds (see medlike.plugins). sizes: training images of each
    class. tempered: classes are already sampled evenly, so pairs are not weighted again. TrainingError lists the
    known names.
    """
    weights = None if tempered else class_weights(sizes)
    if name == "sch":
        return _sch(SCHSettings(), weights)
    if name == "sch-released":
        return _sch(SCHSettings(variant="released"), class_weights(sizes))
    if name.startswith("sch-alpha-") and name[10:].replace(".", "", 1).isdigit():
        return _sch(SCHSettings(alpha=float(name[10:])), weights)
    if name in ("sch-shuffled", "sch-mean", "sch-one"):
        return _sch(SCHSettings(structure=name.removeprefix("sch-")), weights)  # type: ignore[arg-type]
    added = plugins(LOSSES)
    if name in added:
        pairwise = load(added[name])(len(sizes), bits)
        return lambda u, labels, fingerprints: (pairwise(u, labels), None)
    hint = "" if added else "; losses of other methods (csq, dch, dpsh, dsh, hashnet) come with medlike-research"
    raise TrainingError(f"loss {name!r} is unknown; known: {', '.join([*HASH_LOSSES, *added])}{hint}")


def supervised_contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrast of unit features [B,D]; rows without a positive add nothing.

    Source: Khosla et al. 2020.
    """
    scores = features.float() @ features.float().T / temperature
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(diagonal, -1e4)
    known = labels >= 0
    positive = (labels[:, None] == labels[None]) & ~diagonal & known[:, None] & known[None]
    log_share = scores - scores.logsumexp(dim=1, keepdim=True)
    count = positive.sum(dim=1)
    each = -(log_share * positive).sum(dim=1) / count.clamp(min=1)
    return each.sum() / (count > 0).sum().clamp(min=1)


def judge(
    outputs: Outputs,
    labels: Mapping[str, Tensor],
    fingerprints: Tensor,
    loss: HashLoss,
    recipe: Recipe,
    learned_width: int,
    coded: bool = True,
) -> Judged:
    """Return the loss of a batch.

    Args:
        outputs: Of an image network. outputs["start"], where given, is the real code that training started from,
            [B,K]: its similarities are kept instead of those of the feature.
        labels: int64 [B] by level, below 0 where unknown.
        fingerprints: [B,16,16].
        loss: The hash loss.
        recipe: The weights of the terms.
        learned_width: Width of the learned part of the feature.
        coded: False while only the feature is trained; the terms of the code are left out.
    """
    histogram: Tensor | None = None
    parts: dict[str, float] = {}
    total = outputs["u"].sum() * 0
    if coded and recipe.hash:
        hashed, histogram = loss(outputs["u"], labels[LEVEL], fingerprints)
        parts["hash"] = float(hashed.detach())
        total = recipe.hash * hashed
    if recipe.classification:
        entropy = hierarchy_entropy(outputs["logits"], labels, recipe.smoothing)
        parts["classification"] = float(entropy.detach())
        total = total + recipe.classification * entropy
    if recipe.contrast:
        learned = F.normalize(outputs["feature"][:, :learned_width].float(), dim=1)
        contrast = supervised_contrast(learned, labels[LEVEL], recipe.temperature)
        parts["contrast"] = float(contrast.detach())
        total = total + recipe.contrast * contrast
    if coded and recipe.preservation:
        # The feature is held fixed: the code learns from it, and not the other way round.
        teacher = outputs["start" if "start" in outputs else "feature"]
        preserved = relational_error(outputs["u"], teacher) + 0.002 * quantisation(outputs["u"])
        parts["preservation"] = float(preserved.detach())
        total = total + recipe.preservation * preserved
    return Judged(total, parts, histogram)
