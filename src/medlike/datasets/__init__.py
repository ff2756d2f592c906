"""Labelled collections, label trees and grouped splits."""

from medlike.datasets.hashing import hash_samples, open_sample, prepare_batches, prepare_samples
from medlike.datasets.labels import (
    coarse_class,
    headline,
    headline_labels,
    label_tree,
    node_path,
    region_of,
)
from medlike.datasets.licences import may_draw, may_train
from medlike.datasets.manifest import read_manifest, write_manifest
from medlike.datasets.reading import read_collection
from medlike.datasets.sample import Dataset, Sample, files_digest, join
from medlike.datasets.sources import read_sources, with_sources
from medlike.datasets.splits import PARTS, Split, find_units, make_split

__all__ = [
    "PARTS",
    "Dataset",
    "Sample",
    "Split",
    "coarse_class",
    "files_digest",
    "find_units",
    "hash_samples",
    "headline",
    "headline_labels",
    "join",
    "label_tree",
    "make_split",
    "may_draw",
    "may_train",
    "node_path",
    "open_sample",
    "prepare_batches",
    "prepare_samples",
    "read_collection",
    "read_manifest",
    "read_sources",
    "region_of",
    "with_sources",
    "write_manifest",
]
