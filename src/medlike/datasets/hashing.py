"""Perceptual hashes of a collection's samples, for finding near-duplicates."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError


def hash_samples(dataset: Dataset, threads: int = 2) -> np.ndarray:
    """The 64-bit perceptual hash of every sample: uint64 [N], in the dataset's order.

    Raises DatasetError with the number and the first of the samples that cannot be read.
    """
    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(_hash, dataset))
    bad = [(s.path, r) for s, r in zip(dataset, results, strict=True) if isinstance(r, Exception)]
    if bad:
        path, reason = bad[0]
        raise DatasetError(
            f"{len(bad)} samples cannot be read, the first is {path}: {reason}; delete their rows"
        )
    return np.array(results, dtype=np.uint64)


def _hash(sample: Sample) -> int | Exception:
    from PIL import Image
    from scipy.fft import dctn

    try:
        image = Image.open(sample.file) if sample.item is None else Image.fromarray(sample.pixels())
        small = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    except (OSError, ValueError) as error:
        return error
    low = dctn(small, norm="ortho")[:8, :8].ravel()
    return int(np.packbits(low > np.median(low[1:])).view(">u8")[0])
