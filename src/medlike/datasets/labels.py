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
# 64x64 images whose class is given away by the background: reported apart, never in a headline.
APART = frozenset({"medical_mnist"})

# Sources that share a hospital or an origin: leaving one out means leaving out all of its kin.
KIN = (
    frozenset({"hannover_cxr", "covid_cxr_lungbox"}),
    frozenset({"boneage_hand", "medical_mnist"}),
)

# What would mislead a reader of figures on these sources; reports say it.
TRAPS = {
    "medical_mnist": "thumbnails whose classes their backgrounds give away: apart, never in a headline",
    "medpix2": "a burned-in watermark and strips of text can tell the source: training blanks border strips at random, "
    "and the mAP within the source stands beside the pooled one",
}

# Coarse classes that occur in several sources of the development collections.
CROSS_SOURCE_CLASSES = (
    "XR_chest",
    "CT_chest",
    "CT_abdomen",
    "MR_head",
    "MR_spine",
    "US_breast",
    "XR_hand",
)


def region_of(sample: Sample) -> str:
    """The region under its one name: thorax is chest, spine_muscle is spine."""
    return REGION_NAMES.get(sample.region, sample.region)


def node_path(sample: Sample) -> tuple[str, ...]:
    """The sample's path in the label tree: modality, region (parent first), label.

    A brain MR of a glioma is ("MR", "head", "brain", "MR_brain_glioma_tumor"). Unknown levels are left out.
    """
    region = region_of(sample)
    parent = REGION_PARENTS.get(region)
    levels = (sample.modality, parent, region, sample.label)
    return tuple(level for level in levels if level)


def shared_depth(a: Sample, b: Sample) -> int:
    """How many levels of the tree two samples share from the root: 0 = not even the modality."""
    depth = 0
    for x, y in zip(node_path(a), node_path(b), strict=False):
        if x != y:
            break
        depth += 1
    return depth


def coarse_class(sample: Sample) -> str:
    """Modality and outermost region: MR_head for MR_brain_*, CT_chest for CT_thorax; OOD_* stay."""
    if sample.is_ood:
        return sample.coarse
    region = region_of(sample)
    return f"{sample.modality}_{REGION_PARENTS.get(region, region)}"


def known_traps(dataset: Dataset) -> list[str]:
    """A sentence for each source of a dataset whose figures would mislead, with its number of images."""
    count = Counter(sample.source for sample in dataset)
    found = []
    for source, said in TRAPS.items():
        if count[source]:
            found.append(f"{source} ({count[source]:,} image{'s' * (count[source] != 1)}): {said}.")
    for group in KIN:
        if all(count[source] for source in group):
            found.append(f"{' and '.join(sorted(group))} share a hospital or an origin: left out together.")
    return found


def kin_of(source: str) -> frozenset[str]:
    """The source and every source that shares its hospital or origin."""
    return frozenset({source}).union(*(group for group in KIN if source in group))


def can_be_headline(sample: Sample) -> bool:
    """Not OOD, not Medical MNIST, not `*_todo`, and labelled."""
    return bool(sample.label) and not (
        sample.is_ood or sample.source in APART or sample.label.endswith("_todo")
    )


def headline_labels(dataset: Dataset, minimum: int = HEADLINE_MINIMUM) -> tuple[str, ...]:
    """The labels of the headline figures, sorted: those that can be and have at least `minimum` images."""
    counts = Counter(s.label for s in dataset if can_be_headline(s))
    return tuple(sorted(label for label, n in counts.items() if n >= minimum))


def headline(dataset: Dataset, minimum: int = HEADLINE_MINIMUM) -> Dataset:
    """The samples of the headline figures. Medical MNIST is out even where its label is a headline label."""
    labels = set(headline_labels(dataset, minimum))
    return dataset.where(lambda s: can_be_headline(s) and s.label in labels)


def label_tree(samples: Iterable[Sample]) -> dict[str, dict[str, list[str]]]:
    """modality -> outermost region -> sorted labels, of the samples that are not OOD."""
    tree: dict[str, dict[str, set[str]]] = {}
    for sample in samples:
        if sample.is_ood or not sample.label:
            continue
        region = region_of(sample)
        region = REGION_PARENTS.get(region, region)
        tree.setdefault(sample.modality, {}).setdefault(region, set()).add(sample.label)
    return {m: {r: sorted(labels) for r, labels in sorted(rs.items())} for m, rs in sorted(tree.items())}
