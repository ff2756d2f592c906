"""Read, prepare and hash every image of a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError, ImageError
from medlike.imaging.letterbox import SIZE

if TYPE_CHECKING:
    from medlike.imaging import Image, Prepared

T = TypeVar("T")


def open_sample(sample: Sample) -> Image:
    """Open the image of a sample (the middle frame of a file with several). Raises ImageError."""
    from medlike.imaging import from_array, read

    if sample.item is not None:
        return from_array(sample.pixels())
    return next(iter(read(sample.file)))


def hash_samples(dataset: Dataset, threads: int = 2) -> np.ndarray:
    """Compute the 64-bit perceptual hash of every sample: uint64 [N], in the dataset's order.

    Raises DatasetError with the number and the first of the samples that cannot be read.
    """
    from medlike.imaging import perceptual_hash, render

    hashes = list(_each(dataset, lambda image: perceptual_hash(render(image)), threads))
    return np.array(hashes, dtype=np.uint64)


def prepare_samples(dataset: Dataset, threads: int = 2, side: int = SIZE) -> Iterator[Prepared]:
    """Yield every sample prepared for an encoder of pictures `side` pixels wide, in the dataset's order."""
    from medlike.imaging import prepare

    return _each(dataset, lambda image: prepare(image, side), threads)


def prepare_batches(dataset: Dataset, size: int = 64, side: int = SIZE) -> Iterator[list[Prepared]]:
    """Yield samples prepared `side` pixels wide in batches of `size`; the last batch may be smaller."""
    pictures = prepare_samples(dataset, side=side)
    while batch := list(islice(pictures, size)):
        yield batch


def _each(dataset: Dataset, work: Callable[[Image], T], threads: int) -> Iterator[T]:
    def attempt(sample: Sample) -> T | ImageError:
        try:
            return work(open_sample(sample))
        except ImageError as error:
            return error

    bad: list[tuple[str, ImageError]] = []
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(dataset), 256):
            samples = dataset.samples[start : start + 256]
            for sample, result in zip(samples, pool.map(attempt, samples), strict=True):
                if isinstance(result, ImageError):
                    bad.append((sample.path, result))
                else:
                    yield result
    if bad:
        path, reason = bad[0]
        raise DatasetError(f"{len(bad)} samples cannot be read, the first is {path}: {reason}; delete their rows")
