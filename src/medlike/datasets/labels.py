"""The label tree (modality -> region -> label), headline labels, and the coarse map across collections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from medlike.datasets.sample import Dataset, Sample

# One region, one name. Left: as written in manifests.
REGION_NAMES = {
    "thorax": "chest",
    "spine_muscle": "spine",
    "pelvis_urogenital": "pelvis",
    "abd": "abdomen",
    "lung": "chest",
}
# A region inside another: brain images are head images.
REGION_PARENTS = {"brain": "head"}

HEADLINE_MINIMUM = 40


def region_of(sample: Sample) -> str:
    """Return the region under its one name: thorax is chest, spine_muscle is spine."""
    return REGION_NAMES.get(sample.region, sample.region)


def node_path(sample: Sample) -> tuple[str, ...]:
    """Return the sample's path in the label tree: modality, region (parent first), label.

    A brain MR of a glioma is ("MR", "head", "brain", "MR_brain_glioma_tumor"). Unknown levels are left out.
    """
    region = region_of(sample)
    parent = REGION_PARENTS.get(region)
    levels = (sample.modality, parent, region, sample.label)
    return tuple(level for level in levels if level)


def coarse_class(sample: Sample) -> str:
    """Return modality and outermost region: MR_head for MR_brain_*, CT_chest for CT_thorax; OOD_* stay."""
    if sample.is_ood:
        return sample.coarse
    region = region_of(sample)
    return f"{sample.modality}_{REGION_PARENTS.get(region, region)}"


def cautions(dataset: Dataset) -> list[str]:
    """Return a sentence for each source whose figures would mislead, and one for sources that share an origin."""
    count = Counter(sample.source for sample in dataset)
    texts = {sample.source: sample.caution for sample in dataset if sample.caution}
    sentences = [f"{s} ({count[s]:,} image{'s' * (count[s] != 1)}): {texts[s]}." for s in sorted(texts)]
    for family in families(dataset):
        if len(family) > 1:
            sentences.append(f"{' and '.join(family)} share a hospital or an origin: left out together.")
    return sentences


def origin_of(sample: Sample) -> str:
    """Return the hospital or origin of a sample; its source where nothing else is known."""
    return sample.origin or sample.source


def families(samples: Iterable[Sample]) -> list[tuple[str, ...]]:
    """Return the sources, those that share an origin together: sorted names of each family, sorted."""
    sources: dict[str, set[str]] = {}
    for sample in samples:
        sources.setdefault(origin_of(sample), set()).add(sample.source)
    return sorted(tuple(sorted(names)) for names in sources.values())


def kin_of(source: str, samples: Iterable[Sample]) -> frozenset[str]:
    """Return the source and every source among the samples that shares its hospital or origin."""
    return frozenset({source}).union(*(family for family in families(samples) if source in family))


def apart_sources(samples: Iterable[Sample]) -> frozenset[str]:
    """Return the sources whose images are kept apart from headline figures."""
    return frozenset(sample.source for sample in samples if sample.apart)


def can_be_headline(sample: Sample) -> bool:
    """Return True for a labelled image that is neither OOD nor apart, and whose label is no `*_todo`."""
    return bool(sample.label) and not (sample.is_ood or sample.apart or sample.label.endswith("_todo"))


def headline_labels(dataset: Dataset, minimum: int = HEADLINE_MINIMUM) -> tuple[str, ...]:
    """Return the labels of the headline figures, sorted: the eligible ones with at least `minimum` images."""
    counts = Counter(s.label for s in dataset if can_be_headline(s))
    return tuple(sorted(label for label, n in counts.items() if n >= minimum))


def headline(dataset: Dataset, minimum: int = HEADLINE_MINIMUM) -> Dataset:
    """Return the samples of the headline figures. Sources set apart are left out, whatever their labels."""
    labels = set(headline_labels(dataset, minimum))
    return dataset.where(lambda s: can_be_headline(s) and s.label in labels)


def label_tree(samples: Iterable[Sample]) -> dict[str, dict[str, list[str]]]:
    """Return modality -> outermost region -> sorted labels, of the samples that are not OOD."""
    tree: dict[str, dict[str, set[str]]] = {}
    for sample in samples:
        if sample.is_ood or not sample.label:
            continue
        region = region_of(sample)
        region = REGION_PARENTS.get(region, region)
        tree.setdefault(sample.modality, {}).setdefault(region, set()).add(sample.label)
    return {m: {r: sorted(labels) for r, labels in sorted(rs.items())} for m, rs in sorted(tree.items())}
