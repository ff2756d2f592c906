"""MedMNIST: one npz with train_images, train_labels, val_images, ... (Yang et al., Scientific Data 2023)."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError

_PARTS = ("train", "val", "test")
# What the sets show: modality and region in the words of this package.
_SETS = {
    "bloodmnist": ("microscopy", "blood"),
    "breastmnist": ("US", "breast"),
    "chestmnist": ("XR", "chest"),
    "dermamnist": ("photo", "skin"),
    "octmnist": ("OCT", "retina"),
    "organamnist": ("CT", "abdomen"),
    "organcmnist": ("CT", "abdomen"),
    "organsmnist": ("CT", "abdomen"),
    "pathmnist": ("microscopy", "colon"),
    "pneumoniamnist": ("XR", "chest"),
    "retinamnist": ("fundus", "retina"),
    "tissuemnist": ("microscopy", "kidney"),
}


def read_medmnist(path: str | Path, name: str | None = None) -> Dataset:
    """Read the images of a MedMNIST file in stored order; `extra["part"]` is the part its authors put them in.

    Labels are SET_NUMBER (pneumoniamnist_1); the numbers of several labels of an image are joined by `|`.

    Args:
        path: The npz file.
        name: Name of the collection; by default that of the file.

    Raises:
        DatasetError: The file cannot be read, or arrays are missing, of other shapes, or three-dimensional.
    """
    file = Path(path)
    name = name or file.stem
    kind = file.stem.split("_")[0].lower()
    modality, region = _SETS.get(kind, ("", ""))
    try:
        with np.load(file, allow_pickle=False) as arrays:
            parts = [p for p in _PARTS if f"{p}_images" in arrays and f"{p}_labels" in arrays]
            if not parts:
                raise DatasetError(f"{file} holds {', '.join(arrays.files)}; expected train_images, train_labels")
            samples: list[Sample] = []
            for part in parts:
                images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
                labels = labels.reshape(len(labels), -1)
                if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)):
                    raise DatasetError(
                        f"{file}: {part}_images are {images.dtype} {list(images.shape)}; this reader takes "
                        "uint8 [N, H, W] or [N, H, W, 3] (not the 3D sets)"
                    )
                if len(images) != len(labels):
                    raise DatasetError(f"{file}: {len(images)} {part} images but {len(labels)} labels")
                for row, values in enumerate(labels):
                    samples.append(
                        Sample(
                            path=f"{file.name}#{part}/{row}",
                            file=file.resolve(),
                            label=f"{kind}_{_written(values)}",
                            coarse=f"{modality}_{region}".strip("_"),
                            source=name,
                            modality=modality,
                            region=region,
                            width=images.shape[2],
                            height=images.shape[1],
                            collection=name,
                            item=(f"{part}_images", row),
                            extra={"part": part},
                        )
                    )
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file} cannot be read as npz: {error}") from error
    return Dataset(name, tuple(samples))


def _written(values: np.ndarray) -> str:
    """Return the number of a class as text; for several findings at once (0 or 1 each) the numbers of those present."""
    if len(values) == 1:
        return str(int(values[0]))
    return "|".join(str(n) for n in np.flatnonzero(values)) or "none"
