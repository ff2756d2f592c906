"""The pictures of a collection as the networks see them, prepared once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.datasets import Dataset, Sample, files_digest, prepare_samples
from medlike.files import drafted_folder
from medlike.imaging.letterbox import SIZE
from medlike.types import U8, Progress


@dataclass(frozen=True)
class Pictures:
    """pixels: uint8 [N,224,224], letterboxed grey, mapped from a file. fingerprints: uint8 [N,16,16].

    digest: of the files that the pictures were made from.
    """

    pixels: U8
    fingerprints: U8
    digest: str

    def __len__(self) -> int:
        return len(self.pixels)


def collection_digest(samples: Sequence[Sample]) -> str:
    """Return a sha256 over the sorted paths and sizes of the files: which images took part."""
    lines = sorted(f"{sample.path}\t{sample.file.stat().st_size}\n" for sample in samples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def prepare_pictures(dataset: Dataset, cache: str | Path, say: Progress[str] = lambda line: None) -> Pictures:
    """Return the pictures of a dataset, in its order; they are kept under `cache` for the next time.

    Pixels stay on disk, mapped: 100,000 pictures would be 5 GB.
    """
    digest = files_digest(dataset)[:16]
    folder = Path(cache) / f"pictures-{digest}"
    if not folder.is_dir():
        say(f"preparing {len(dataset)} pictures")
        _write(dataset, folder)
    # Copy on write: training may change a batch, but must never change the file.
    return Pictures(np.load(folder / "pixels.npy", mmap_mode="c"), np.load(folder / "fingerprints.npy"), digest)


def _write(dataset: Dataset, target: Path) -> None:
    """Write the pictures as two arrays in a folder that is either whole or not there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with drafted_folder(target) as draft:
        shape = (len(dataset), SIZE, SIZE)
        pixels = np.lib.format.open_memmap(draft / "pixels.npy", "w+", np.uint8, shape)
        prints = []
        for row, item in enumerate(prepare_samples(dataset)):
            pixels[row] = item.pixels
            prints.append(item.fingerprint)
        pixels.flush()
        np.save(draft / "fingerprints.npy", np.stack(prints))
