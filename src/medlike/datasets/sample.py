"""One labelled image of a collection, and a collection of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from medlike.errors import DatasetError


@dataclass(frozen=True)
class Sample:
    """A manifest row, frozen: where the image is and what is known of it.

    Attributes:
        path: Its name in the manifest, unique in a Dataset; split files are written in these names.
        file: Where the image lies; for archives of arrays (MedMNIST) `item` says which one.
        label: The finest class.
        coarse: Modality and region, or OOD_*.
        source: Where the image comes from.
        group: Patient or case, empty where unknown; counts within its source only.
        modality: CT, MR, US, XR ...
        region: Part of the body.
        task: `ood` for an image that is not radiological.
        width: Pixels, if known.
        height: Pixels, if known.
        boxes: x0, y0, x1, y1, source pixels, half-open.
        mask: A file, or None.
        text: Report or caption, empty where there is none or only a placeholder.
        licence: Terms of the image.
        apart: In no headline figure, and in training only a share of such images.
        origin: Hospital or earlier collection that several sources share, empty for the source's own.
        caution: A sentence on the source, for readers of figures.
        collection: Name of the collection.
        item: Array and row in an archive of arrays.
        extra: Whatever else is known.
    """

    path: str
    file: Path
    label: str = ""
    coarse: str = ""
    source: str = ""
    group: str = ""
    modality: str = ""
    region: str = ""
    task: str = ""
    width: int | None = None
    height: int | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    mask: Path | None = None
    text: str = ""
    licence: str = ""
    apart: bool = False
    origin: str = ""
    caution: str = ""
    collection: str = ""
    item: tuple[str, int] | None = None
    extra: Mapping[str, object] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, file: Path, root: Path, collection: str) -> Sample:
        """Return the sample of a file below the folder `root` of a collection, which is its source too."""
        path = file.relative_to(root).as_posix()
        return cls(path=path, file=file.resolve(), source=collection, collection=collection)

    @property
    def is_ood(self) -> bool:
        """Return True for an image that is not radiological: class `OOD_*` or task `ood`."""
        return self.task == "ood" or self.coarse.startswith("OOD_") or self.label.startswith("OOD_")

    def pixels(self) -> np.ndarray:
        """Return the array of an image inside an archive of arrays: uint8 [H, W] or [H, W, 3].

        Raises DatasetError for a sample that is a file: read those with medlike.imaging.
        """
        if self.item is None:
            raise DatasetError(f"{self.path} is a file: read it with medlike.imaging.read")
        key, row = self.item
        return _array(self.file, key)[row]


@lru_cache(maxsize=3)
def _array(file: Path, key: str) -> np.ndarray:
    """Load one array of an archive, cached because each reading unpacks it whole and samples are read one by one."""
    with np.load(file) as arrays:
        return np.asarray(arrays[key])


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order under a name; paths are unique."""

    name: str
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        for row, sample in enumerate(self.samples):
            if sample.path in seen:
                raise DatasetError(
                    f"{self.name}: rows {seen[sample.path] + 1} and {row + 1} both name {sample.path!r}; "
                    "every path may occur once: delete one of the rows"
                )
            seen[sample.path] = row

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, row: int) -> Sample:
        return self.samples[row]

    def where(self, keep: Callable[[Sample], bool]) -> Dataset:
        """Return the samples for which `keep` is true, in the same order."""
        return replace(self, samples=tuple(s for s in self.samples if keep(s)))

    def column(self, name: str) -> np.ndarray:
        """Return one field of all samples, str [N]; `name` is a field of Sample (label, source, ...)."""
        return np.array([str(getattr(s, name)) for s in self.samples], dtype=np.str_)


def require_images(place: Path, present: int, missing: Sequence[object], advice: str) -> None:
    """Raise DatasetError if images are missing; the message says how many, names the first and gives the advice."""
    if missing:
        share = f"{len(missing)} of {len(missing) + present}"
        raise DatasetError(f"{place}: {share} images are missing, the first is {missing[0]}; {advice}")


def files_digest(data: Dataset) -> str:
    """Return the sha256 over files, sizes and times of the samples, in order: the key of a cache on this machine."""
    digest = hashlib.sha256()
    for sample in data:
        facts = sample.file.stat()
        digest.update(f"{sample.file}\t{sample.item}\t{facts.st_size}\t{facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def join(*datasets: Dataset, name: str | None = None) -> Dataset:
    """Join several collections; every path gets its collection's name in front (dev/images/...).

    Raises DatasetError if two collections have the same name.
    """
    names = [d.name for d in datasets]
    for repeated in names:
        if names.count(repeated) > 1:
            raise DatasetError(f"two collections are called {repeated!r}; give one of them another name")
    samples = [
        replace(s, path=f"{d.name}/{s.path}", source=s.source or d.name, collection=s.collection or d.name)
        for d in datasets
        for s in d
    ]
    return Dataset(name or "+".join(names), tuple(samples))
