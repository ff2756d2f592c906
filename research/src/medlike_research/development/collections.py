"""The development collections, dev and dev2, and what is known of them."""

from __future__ import annotations

import os
from pathlib import Path

from medlike.datasets import Dataset, join, read_manifest, read_sources, with_sources
from medlike.errors import DatasetError

SOURCES = Path(__file__).with_name("sources.csv")

# Coarse classes with enough images from several sources.
CROSS_SOURCE_CLASSES = ("XR_chest", "CT_chest", "CT_abdomen", "MR_head", "MR_spine", "US_breast", "XR_hand")
# Hands have no second source but Medical MNIST, which is apart and of the same origin.
LENIENT_CLASSES = frozenset({"XR_hand"})


def development(names: tuple[str, ...] = ("dev", "dev2"), folder: str | Path | None = None) -> Dataset:
    """Return the development collections as one Dataset, with what is known of their sources.

    Args:
        names: The collections; each is the first part of its paths (dev/images/...).
        folder: The folder that holds them; by default the environment variable MEDLIKE_DEV.

    Raises:
        DatasetError: The folder is not known, or lacks a collection.
    """
    folder = folder or os.environ.get("MEDLIKE_DEV")
    if not folder:
        raise DatasetError(
            "the development collections are not known: set MEDLIKE_DEV to the folder with dev/ and dev2/"
        )
    return with_sources(join(*(read_manifest(Path(folder) / n, name=n) for n in names)), read_sources(SOURCES))
