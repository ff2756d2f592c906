"""What must hold before a run starts: classes, positives, labels that can be found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from medlike.datasets import Dataset, Split
from medlike.datasets.splits import PARTS, SHARES
from medlike.errors import TrainingError
from medlike.models.presets import NetworkSettings
from medlike.training.material import sampling_weights
from medlike.training.recipe import Recipe
from medlike.types import I64, Progress

# Pairs of the same class that a batch must hold on average, else most steps learn nothing.
LEAST_POSITIVES = 1.0
# With so many images of a label, every part of the usual split holds one.
LEAST_A_LABEL = round(1 / min(SHARES.values()))


def require_labels(train: Dataset, validation: Dataset, say: Progress[str] = lambda line: None) -> None:
    """Raise TrainingError unless classes have pairs and validation asks for something training pictures hold.

    Says which labels have a single image, and which of the validation part's are missing from the training part.
    """
    counts = Counter(sample.label for sample in train if sample.label)
    single = sorted(label for label, count in counts.items() if count == 1)
    if counts and len(single) == len(counts):
        raise TrainingError(
            f"each of the {len(counts)} labels of the training part has a single image; at least 2 images a label "
            "are needed to learn what belongs together: give more images, or coarser labels"
        )
    if single:
        say(f"{len(single)} labels have one training image and no positive pair: {_some(single)}")
    query_labels = {sample.label for sample in validation if sample.label}
    missing = sorted(query_labels - set(counts))
    if not query_labels - set(missing):
        raise TrainingError(
            "no label of the validation part occurs in the training part, so nothing can be validated; "
            "give more images a label, or another split"
        )
    if missing:
        say(f"{len(missing)} labels of the validation part are missing from the training part: {_some(missing)}")


def require_directions(part: Dataset, settings: NetworkSettings) -> None:
    """Raise TrainingError where the training images are too few for the directions of the network's linear branch."""
    if len(part) <= settings.linear:
        raise TrainingError(
            f"{len(part)} training images carry fewer than the {settings.linear} directions of the linear branch; give "
            f"more images, or --set linear={max(1, len(part) // 2)}"
        )


def require_positives(part: Dataset, labels: I64, recipe: Recipe) -> float:
    """Return the mean number of pairs of one class in a batch. TrainingError where it is under 1.

    labels: int64 [N], below 0 where unknown.
    """
    batch = recipe.batch
    if batch < 2 or batch > len(part):
        raise TrainingError(
            f"batches of {batch} from {len(part)} training pictures; give more pictures, "
            f"or --set batch={max(2, len(part) // 4)}"
        )
    pairs = positive_pairs(part, labels, batch, recipe.sampling)
    if pairs < LEAST_POSITIVES:
        count = len(np.unique(labels[labels >= 0]))
        raise TrainingError(
            f"a batch of {batch} from {count} labels holds {pairs:.2f} pairs of the same label on average, "
            f"fewer than {LEAST_POSITIVES:g}: raise --set batch, or use coarser labels"
        )
    return pairs


def positive_pairs(part: Dataset, labels: I64, batch: int, sampling: str) -> float:
    """Return the mean number of pairs of one class in a batch. labels: int64 [N], below 0 where unknown."""
    known = labels >= 0
    share = np.bincount(labels[known], weights=sampling_weights(part, sampling)[known])
    return float((share**2).sum() * batch * (batch - 1) / 2)


def require_gallery(everything: Dataset, split: Split) -> None:
    """Raise TrainingError where no label of the query part occurs in the gallery: nothing could be measured."""
    gallery = {s.label for s in split.part(everything, "gallery") if s.label and not s.is_ood}
    query = {s.label for s in split.part(everything, "query") if s.label and not s.is_ood}
    if not gallery & query:
        raise TrainingError(
            f"none of the {len(query)} labels of the query part occurs in the gallery ({len(gallery)} labels): "
            "retrieval cannot be measured; give more images a label, or another split"
        )


def require_all(everything: Dataset, split: Split, checks: Iterable[Callable[[], object]]) -> None:
    """Make every check and raise one TrainingError with all that they find, the sizes of the parts and what to give.

    Args:
        everything: All images.
        split: The parts that they are in.
        checks: Functions that raise TrainingError.
    """
    problems = []
    for check in checks:
        try:
            check()
        except TrainingError as error:
            problems.append(str(error))
    if not problems:
        return
    usual = everything.where(lambda sample: not sample.is_ood)
    sizes = ", ".join(f"{part} {len(split.part(usual, part))}" for part in PARTS)
    counts = Counter(sample.label for sample in usual if sample.label)
    few = sorted(label for label, count in counts.items() if count < LEAST_A_LABEL)
    message = f"{'; '.join(problems)}. The parts of {len(usual)} images of {len(counts)} labels are: {sizes}"
    if few or len(counts) < 2:
        message += f". Give at least 2 labels, and of each at least {LEAST_A_LABEL} images of different patients"
        message += f"; fewer have {_some([f'{label} ({counts[label]})' for label in few])}" if few else ""
    raise TrainingError(message)


def require_free(out: Path, replace: bool) -> None:
    """Raise TrainingError where a bundle is at `out` and may not be replaced: known before hours of work."""
    if out.exists() and not replace:
        raise TrainingError(f"{out} exists; choose another --out, or --replace it")


def _some(labels: list[str], most: int = 5) -> str:
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")
