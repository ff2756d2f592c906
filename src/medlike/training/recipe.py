"""How a network is trained: every setting of a run, and the recipes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from medlike.errors import TrainingError
from medlike.models.changes import with_changes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from medlike.types import Json


@dataclass(frozen=True)
class Recipe:
    """Settings of a run.

    protocol: "frozen" keeps the stem as it is and trains on its cached maps, "end-to-end" trains all of it.
    loss: the hash loss, see objective.HASH_LOSSES. epochs, batch; feature_epochs: the first epochs train the
    feature alone, then the code starts as a learned rotation of it (networks with a linear path).
    depth_steps, depth_rate: batches and rate of the depth branch before all else (frozen; see depths.py).
    rate: learning rate; stem_rate: the stem's (end-to-end); start_rate, warmup: rate of the first epoch and epochs
    until `rate`; end_rate: of the last. betas, decay: AdamW. patience: epochs without a better validation mAP
    before it stops.
    augmentation: a name of augmentation.AUGMENTATIONS; views: cached views a picture (frozen).
    mixing: largest share of another picture mixed into the maps of half the batches.
    sampling: "uniform", or "tempered": classes of a source by the inverse root of their size.
    hash, contrast, classification, preservation: weights of the hash loss, of supervised contrast on the
    learned part of the blended feature, of the auxiliary classifier, and of keeping the blended feature's
    similarities in the code. smoothing: of the classifier's targets. temperature: of the contrast.
    average: decay of the running mean of the weights that is validated and kept; 0 keeps the last ones.
    share: length of the learned part of the blended feature beside the linear one. whitening: how far the
    linear part is evened out, 0 to 1; code_whitening: the same before the code's first rotation.
    decoder_epochs, decoder_rate: stage 2.
    """

    protocol: Literal["frozen", "end-to-end"] = "frozen"
    loss: str = "sch"
    depth_steps: int = 3000
    depth_rate: float = 3e-3
    epochs: int = 8
    feature_epochs: int = 4
    batch: int = 256
    rate: float = 1e-4
    stem_rate: float = 2e-5
    start_rate: float = 2e-5
    end_rate: float = 1e-5
    warmup: int = 1
    betas: tuple[float, float] = (0.9, 0.98)
    decay: float = 0.05
    patience: int = 50
    augmentation: str = "strong"
    views: int = 4
    mixing: float = 0.0
    sampling: Literal["uniform", "tempered"] = "tempered"
    hash: float = 0.3
    contrast: float = 1.0
    classification: float = 2.4
    preservation: float = 10.0
    smoothing: float = 0.1
    temperature: float = 0.1
    average: float = 0.99
    share: float = 3.0
    whitening: float = 0.5
    code_whitening: float = 0.1
    decoder_epochs: int = 8
    decoder_rate: float = 1e-3


RECIPES: dict[str, Recipe] = {
    "ours": Recipe(),
    # Nan et al. 2025, section 4: AdamW, warm-up, cosine, batch 256, early stop, light augmentation.
    "paper": Recipe(
        protocol="end-to-end",
        depth_steps=0,
        epochs=150,
        feature_epochs=0,
        batch=256,
        rate=3e-4,
        stem_rate=3e-4,
        start_rate=1e-4,
        end_rate=5e-6,
        warmup=10,
        betas=(0.9, 0.95),
        decay=0.01,
        patience=50,
        augmentation="radiology",
        mixing=0.0,
        sampling="uniform",
        hash=1.0,
        contrast=0.0,
        classification=0.5,
        preservation=0.0,
        smoothing=0.0,
        average=0.0,
    ),
}


def changes_by_kind(changes: Mapping[str, Json], *kinds: type[DataclassInstance]) -> list[dict[str, Json]]:
    """Return the changes that belong to each kind of settings; the first kind that has a name takes it.

    Raises:
        TrainingError: No kind has a name; the message lists the known ones.
    """
    left, parts = dict(changes), []
    for kind in kinds:
        parts.append({field.name: left.pop(field.name) for field in fields(kind) if field.name in left})
    if left:
        known = sorted({field.name for kind in kinds for field in fields(kind)})
        raise TrainingError(f"setting {min(left)!r} is unknown; known: {', '.join(known)}")
    return parts


def recipe(name: str, **changes: object) -> Recipe:
    """Return the named recipe with some settings changed; TrainingError lists what is known."""
    if name not in RECIPES:
        raise TrainingError(f"recipe {name!r} is unknown; known: {', '.join(sorted(RECIPES))}")
    return with_changes(RECIPES[name], changes, "recipe setting")
