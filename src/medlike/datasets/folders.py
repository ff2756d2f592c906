"""A folder per class: DATA/label/image.png, the layout that most people have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".dcm", ".webp"})


def read_folders(path: str | Path, name: str | None = None) -> Dataset:
    """Read every image below PATH, labelled with the name of the folder directly below PATH that it lies in.

    Files without an ending are read as DICOM. The order is that of the paths.

    Args:
        path: The folder that holds a folder per class.
        name: Name of the collection; by default that of the folder.

    Raises:
        DatasetError: There is no such folder, no image, or only images outside of class folders.
    """
    root = Path(path)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder; give one that holds a folder a class")
    samples = []
    for file in images_below(root):
        label, *below = file.relative_to(root).parts
        if below:
            samples.append(replace(Sample.of(file, root, name or root.name), label=label, coarse=label))
    if not samples:
        raise DatasetError(f"{root} holds no image in a class folder; expected {root.name}/LABEL/IMAGE.png")
    return Dataset(name or root.name, tuple(samples))


def images_below(root: Path) -> Iterator[Path]:
    """Yield the image files below a folder in the order of their paths; hidden files and folders are skipped."""
    for file in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
        ending = file.suffix.lower()
        known = ending in IMAGE_ENDINGS or (not ending and file.name.upper() != "DICOMDIR")
        if not hidden and known and file.is_file():
            yield file
