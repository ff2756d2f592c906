"""Encoding a collection with a bundle, once: results are kept on disk and found again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, files_digest, prepare_batches
from medlike.evaluation.representation import Representation
from medlike.files import drafted


@dataclass(frozen=True)
class Encoded:
    """What a bundle says of the samples of a Dataset, in its order.

    code: uint8 [N, bits / 8]; content: int8 [N, D]; score, p: float [N] or None; seconds: an image, on
    this host.
    """

    code: np.ndarray
    content: np.ndarray
    score: np.ndarray | None
    p: np.ndarray | None
    seconds: float

    def codes(self) -> Representation:
        """As hash codes."""
        return Representation(codes=self.code, outlier=self.score, outlier_p=self.p)

    def features(self) -> Representation:
        """As content vectors, the float side of the same network."""
        return Representation(features=self.content.astype(np.float32), outlier=self.score, outlier_p=self.p)


@dataclass(frozen=True)
class PictureSummaries:
    """What needs no network: fingerprints uint8 [N, 16, 16] and perceptual hashes uint64 [N]."""

    fingerprints: np.ndarray
    hashes: np.ndarray


def encode_dataset(
    bundle: Bundle, data: Dataset, cache: Path, advance: Callable[[int], None] = lambda n: None
) -> Encoded:
    """Encode every sample; a file in `cache`, named by bundle and samples, spares the work the next time."""
    from medlike.inference import Encoder

    target = cache / f"{bundle.digest[:16]}-{files_digest(data)[:16]}.npz"
    if target.is_file():
        advance(len(data))
        with np.load(target) as kept:
            has = "score" in kept
            return Encoded(
                kept["code"], kept["content"], kept["score"] if has else None, kept["p"] if has else None,
                float(kept["seconds"]),
            )  # fmt: skip
    codes, contents, scores, ps, spent = [], [], [], [], 0.0
    with Encoder(bundle) as encoder:
        for batch in prepare_batches(data):
            begun = time.perf_counter()
            encoded = encoder.encode(batch)
            spent += time.perf_counter() - begun
            codes.append(encoded.code)
            contents.append(encoded.content)
            if encoded.outlier is not None:
                scores.append(encoded.outlier.score)
                ps.append(encoded.outlier.p)
            advance(len(batch))
    result = Encoded(
        np.concatenate(codes),
        np.concatenate(contents),
        np.concatenate(scores) if scores else None,
        np.concatenate(ps) if ps else None,
        spent / len(data),
    )
    arrays = {"code": result.code, "content": result.content, "seconds": np.array(result.seconds)}
    if result.score is not None and result.p is not None:
        arrays.update(score=result.score, p=result.p)
    keep(target, arrays)
    return result


def picture_summaries(data: Dataset, cache: Path) -> PictureSummaries:
    """Fingerprints and perceptual hashes of every sample, kept like encodings."""
    from concurrent.futures import ThreadPoolExecutor

    from medlike.datasets import open_sample
    from medlike.imaging import fingerprint, letterbox, perceptual_hash, render

    target = cache / f"pictures-{files_digest(data)[:16]}.npz"
    if target.is_file():
        with np.load(target) as kept:
            return PictureSummaries(kept["fingerprints"], kept["hashes"])

    def summarise(sample):  # type: ignore[no-untyped-def]
        grey = render(open_sample(sample))
        return fingerprint(letterbox(grey)[0]), perceptual_hash(grey)

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(summarise, data))
    result = PictureSummaries(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=np.uint64))
    keep(target, {"fingerprints": result.fingerprints, "hashes": result.hashes})
    return result


def keep(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz so that it is either whole or not there, also beside another process that writes the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with drafted(target) as draft, draft.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
