"""What a training run learns from and is judged on: pictures, labels by level, and who belongs to which part."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.datasets import Dataset, Split, hash_samples, make_split, may_train, region_of
from medlike.errors import TrainingError
from medlike.training.pictures import Pictures, prepare_pictures
from medlike.types import F64, I64, U64, Progress

# In a source kept apart the background gives the class away; only one in so many of its images takes part.
APART_SHARE = 7


def find_split(
    everything: Dataset,
    work: Path,
    say: Progress[str] = lambda line: None,
    make: Callable[[Dataset, U64], Split] = make_split,
) -> Split:
    """Return the split that `work` holds, else a new one by `make`, which it holds from then on."""
    file = work / "split.json"
    if file.is_file():
        split = Split.load(file)
        split.units(everything)
        return split
    say(f"hashing {len(everything)} images to find near-duplicates")
    made = make(everything, hash_samples(everything))
    made.save(file)
    return made


def in_domain(dataset: Dataset) -> Dataset:
    """Return the images that are no outliers and whose terms allow training."""
    return dataset.where(lambda sample: not sample.is_ood and may_train(sample))


def unit_count(split: Split, everything: Dataset, part: str) -> int:
    """Return how many units of in-domain images a part holds."""
    return len(np.unique(split.units(in_domain(split.part(everything, part)))))


@dataclass(frozen=True)
class Material:
    """One part of the data: samples, their pictures, and labels int64 [N] by level, -1 where unknown."""

    dataset: Dataset
    pictures: Pictures
    labels: dict[str, I64]
    units: I64

    def __len__(self) -> int:
        return len(self.pictures)


def labels_digest(*parts: Material) -> str:
    """Return a sha256 over the labels of some parts, every level."""
    digest = hashlib.sha256()
    for part in parts:
        for level, labels in sorted(part.labels.items()):
            digest.update(level.encode() + labels.tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Classes:
    """Names of the classes by level, coarsest first: modality, region, label."""

    names: dict[str, list[str]]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of classes by level, coarsest first."""
        return {level: len(names) for level, names in self.names.items()}

    def of(self, dataset: Dataset) -> dict[str, I64]:
        """Return labels by level, int64 [N]; -1 for a name that is not among the classes."""
        labels = {}
        for level, names in self.names.items():
            place = {name: index for index, name in enumerate(names)}
            labels[level] = np.array([place.get(_name(sample, level), -1) for sample in dataset], np.int64)
        return labels


def _name(sample: object, level: str) -> str:
    if level == "region":
        return region_of(sample)  # type: ignore[arg-type]
    return str(getattr(sample, level))


def classes_of(dataset: Dataset) -> Classes:
    """Return the classes of a training part, sorted by level. TrainingError for a single label."""
    names = {
        level: sorted({_name(sample, level) for sample in dataset} - {""}) for level in ("modality", "region", "label")
    }
    if len(names["label"]) < 2:
        raise TrainingError(
            f"{dataset.name} has {len(names['label'])} labels; at least 2 are needed to tell images apart"
        )
    return Classes({level: present for level, present in names.items() if present})


def training_part(dataset: Dataset, split: Split, parts: Sequence[str] = ("train",)) -> Dataset:
    """Return in-domain samples whose terms allow training; of collections kept apart, one in seven."""
    seen: Counter[str] = Counter()

    def keep(sample: object) -> bool:
        if sample.is_ood or not may_train(sample):  # type: ignore[attr-defined, arg-type]
            return False
        if sample.apart:  # type: ignore[attr-defined]
            seen[sample.source] += 1  # type: ignore[attr-defined]
            return seen[sample.source] % APART_SHARE == 0  # type: ignore[attr-defined]
        return True

    return split.part(dataset, *parts).where(keep)


def material(
    dataset: Dataset, split: Split, classes: Classes, cache: str | Path, say: Progress[str] = lambda line: None
) -> Material:
    """Return pictures and labels of a part of the data. Raises TrainingError where it is empty."""
    if not len(dataset):
        raise TrainingError(f"a part of {dataset.name} is empty; give more images or another split")
    return Material(dataset, prepare_pictures(dataset, cache, say), classes.of(dataset), split.units(dataset))


def sampling_weights(part: Dataset, sampling: str) -> F64:
    """Return weights, float64 [N], that sum to 1; "tempered": classes of a source by the inverse root of their size."""
    if sampling == "uniform":
        return np.full(len(part), 1 / len(part))
    keys = [f"{sample.source}|{sample.label}" for sample in part]
    counts = Counter(keys)
    weights = np.array([counts[key] ** -0.5 for key in keys])
    return weights / weights.sum()
