"""The pictures of a collection as the networks see them, prepared once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medlike.datasets import Dataset, prepare_samples

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pictures:
    """pixels: uint8 [N,224,224], letterboxed grey. fingerprints: uint8 [N,16,16]. digest: of the files."""

    pixels: npt.NDArray[np.uint8]
    fingerprints: npt.NDArray[np.uint8]
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)


def collection_digest(samples: Sequence[Any]) -> str:
    """sha256 over the sorted paths and sizes of the files: which images took part."""
    lines = sorted(f"{sample.path}\t{sample.file.stat().st_size}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prepare_pictures(dataset: Dataset, cache: str | Path, say: Say = lambda line: None) -> Pictures:
    """Every sample of the dataset, in its order; kept under `cache` and read from there the next time."""
    order = hashlib.sha256("\n".join(sample.path for sample in dataset).encode()).hexdigest()
    digest = hashlib.sha256((collection_digest(list(dataset)) + order).encode()).hexdigest()[:16]
    kept = Path(cache) / f"pictures-{digest}.npz"
    if kept.is_file():
        with np.load(kept) as held:
            return Pictures(held["pixels"], held["fingerprints"], digest)
    say(f"preparing {len(dataset)} pictures")
    prepared = list(prepare_samples(dataset))
    found = Pictures(
        np.stack([item.pixels for item in prepared]),
        np.stack([item.fingerprint for item in prepared]),
        digest,
    )
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(".draft.npz")
    np.savez(draft, pixels=found.pixels, fingerprints=found.fingerprints)
    draft.replace(kept)
    return found
