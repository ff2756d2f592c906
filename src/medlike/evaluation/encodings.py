"""Encode a collection with a bundle once, and keep the results on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Sample, files_digest, prepare_batches
from medlike.evaluation.representation import Representation
from medlike.files import drafted


@dataclass(frozen=True)
class Encoded:
    """Hold what a bundle returns for the samples of a Dataset, in its order.

    Attributes:
        code: uint8 [N, bits / 8].
        content: int8 [N, D].
        score: Outlier score float [N], higher is stranger; None if the bundle gives no verdicts.
        p: p-value of each score, likewise.
        seconds: Time an image, on this machine.
    """

    code: np.ndarray
    content: np.ndarray
    score: np.ndarray | None
    p: np.ndarray | None
    seconds: float

    def codes(self) -> Representation:
        """Return the images as hash codes."""
        return Representation(codes=self.code)

    def features(self) -> Representation:
        """Return the images as content vectors, the float side of the same network."""
        return Representation(features=self.content.astype(np.float32))


@dataclass(frozen=True)
class PictureSummaries:
    """Hold what needs no network.

    Attributes:
        fingerprints: uint8 [N, 16, 16].
        hashes: Perceptual hashes, uint64 [N].
    """

    fingerprints: np.ndarray
    hashes: np.ndarray


def encode_dataset(bundle: Bundle, data: Dataset, cache: Path) -> Encoded:
    """Encode every sample; a file in `cache`, named by bundle and samples, spares the work the next time."""
    from medlike.inference import Encoder

    target = cache / f"{bundle.digest[:16]}-{files_digest(data)[:16]}.npz"
    if target.is_file():
        with np.load(target) as stored:
            return Encoded(**{"score": None, "p": None, **stored, "seconds": float(stored["seconds"])})
    codes, contents, verdicts, spent = [], [], [], 0.0
    with Encoder(bundle) as encoder:
        for batch in prepare_batches(data, side=bundle.image_size):
            begun = time.perf_counter()
            encoded = encoder.encode(batch)
            spent += time.perf_counter() - begun
            codes.append(encoded.code)
            contents.append(encoded.content)
            if encoded.outlier is not None:
                verdicts.append(encoded.outlier)
    result = Encoded(
        np.concatenate(codes),
        np.concatenate(contents),
        np.concatenate([each.score for each in verdicts]) if verdicts else None,
        np.concatenate([each.p for each in verdicts]) if verdicts else None,
        spent / len(data),
    )
    keep(target, {name: np.asarray(value) for name, value in vars(result).items() if value is not None})
    return result


def picture_summaries(data: Dataset, cache: Path) -> PictureSummaries:
    """Return fingerprints and perceptual hashes of every sample, cached like encodings."""
    from concurrent.futures import ThreadPoolExecutor

    from medlike.datasets import open_sample
    from medlike.imaging import fingerprint, letterbox, perceptual_hash, render

    target = cache / f"pictures-{files_digest(data)[:16]}.npz"
    if target.is_file():
        with np.load(target) as stored:
            return PictureSummaries(**stored)

    def summarise(sample: Sample) -> tuple[np.ndarray, np.uint64]:
        grey = render(open_sample(sample))
        return fingerprint(letterbox(grey)[0]), perceptual_hash(grey)

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(summarise, data))
    result = PictureSummaries(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=np.uint64))
    keep(target, vars(result))
    return result


def keep(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz so that it is either whole or not there, also beside another process that writes the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with drafted(target) as draft, draft.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
