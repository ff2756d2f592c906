"""Running a bundle: images in, encodings out, on all cores, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from medlike.bundle import Bundle, default
from medlike.bundle.session import INPUT, code_values, open_session
from medlike.errors import BundleError, InputError
from medlike.inference.encoding import Encodings, quantised
from medlike.inference.outlier import OutlierScorer

SIZE = 224
GRID = 14
# Under this the most probable modality is called unknown.
MODALITY_FLOOR = 0.5
# Share of golden bits under which a host may search but not write.
GOLDEN_SHARE = 0.995


class _Letterbox(Protocol):
    def valid_cells(self, grid: int = GRID) -> npt.NDArray[np.bool_]: ...


@runtime_checkable
class PreparedImage(Protocol):
    """An image as imaging.prepare gives it: pixels uint8 [224, 224] and its letterbox."""

    @property
    def pixels(self) -> npt.NDArray[np.uint8]: ...

    @property
    def letterbox(self) -> _Letterbox: ...


class Encoder:
    """A bundle made ready to run.

    Every image runs alone and on one thread, images beside each other on `threads` (default: all cores), so a
    code depends on nothing but the image and the bundle. The object may be used from several threads.
    threshold: p-value up to which an image is called an outlier, in place of the bundle's.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, threshold: float | None = None) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; a p-value lies between 0 and 1")
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; give 1 or more, or leave it out for all cores")
        if bundle.kind != "image":
            raise BundleError(f"{bundle.name} is a text bundle; give an image bundle such as {default()}")
        self.bundle = bundle
        self.threads = threads or usable_cores()
        self._session = open_session(bundle.graph)
        self._names = bundle.outputs
        self._scorer = OutlierScorer.of(bundle)
        if self._scorer is not None and threshold is not None:
            self._scorer.threshold = threshold
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="medlike-encode")

    def encode(self, images: Sequence[PreparedImage | npt.NDArray[np.uint8]]) -> Encodings:
        """Encode images: prepared ones, or arrays uint8 [224, 224] taken to be all image and no padding.

        Returns Encodings of the same length and order. Raises InputError for another shape or type.
        """
        if not len(images):
            return self._empty()
        return self.encodings(self.outputs(images), images)

    def outputs(self, images: Sequence[PreparedImage | npt.NDArray[np.uint8]]) -> dict[str, Any]:
        """Everything the graph gives for one or more images, by output: float32 [N, ...]."""
        rows = list(self._pool.map(self._run, [_pixels(image) for image in images]))
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(self._names)}

    def features(self, images: Sequence[PreparedImage | npt.NDArray[np.uint8]], output: str) -> Any:
        """An output of the graph for each image, float32 [N, ...]; BundleError where none is so named."""
        if output not in self._names:
            raise BundleError(
                f"bundle {self.bundle.name} has no output {output!r}; it has: {', '.join(self._names)}"
            )
        return self.outputs(images)[output]

    @cached_property
    def golden_share(self) -> float:
        """Share of golden bits that come out here as where the bundle was made, 0 to 1."""
        pictures = list(self.bundle.golden_inputs())
        place = self._names.index("bits")
        values = np.concatenate([row[place] for row in self._pool.map(self._run, pictures)])
        return float(((values > 0) == self.bundle.golden_bits()).mean())

    def require_golden(self) -> None:
        """Raise BundleError where this host's bits differ too much to be mixed with other hosts'."""
        if self.golden_share < GOLDEN_SHARE:
            raise BundleError(golden_message(self.bundle, self.golden_share))

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, picture: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        return self._session.run(self._names, {INPUT: picture[None]})

    def encodings(
        self, given: dict[str, Any], images: Sequence[PreparedImage | npt.NDArray[np.uint8]]
    ) -> Encodings:
        """Encodings from what `outputs` gave for the same images."""
        masks = [_mask(image) for image in images] if "cells" in self._names else []
        if not np.isfinite(given["bits"]).all():
            raise BundleError(f"bundle {self.bundle.name} gives values that are not finite; export it again")
        found = given["content"].shape[1:]
        if found != (self.bundle.content_dim,):
            raise BundleError(
                f"bundle {self.bundle.name} gives content of shape {list(found)}, its specification says "
                f"{self.bundle.content_dim} numbers; export it again"
            )
        modality = self.modalities(given.get("modality"))
        outlier = None
        if self._scorer is not None:
            outlier = self._scorer.verdicts(
                given["outlier_features"], modality, given.get("reconstruction_error")
            )
        return Encodings(
            code=np.packbits(given["bits"] > 0, axis=1),
            content=quantised(given["content"]),
            cells=_packed_cells(given["cells"]) if "cells" in given else None,
            cell_mask=np.stack(masks) if masks else None,
            modality=modality,
            outlier=outlier,
        )

    def modalities(self, probabilities: npt.NDArray[np.float32] | None) -> list[str | None] | None:
        """Names from output "modality", float32 [N, M]; None for an image where no class is above one half."""
        if probabilities is None or not self.bundle.modalities:
            return None
        best = probabilities.argmax(axis=1)
        sure = probabilities.max(axis=1) >= MODALITY_FLOOR
        return [self.bundle.modalities[i] if known else None for i, known in zip(best, sure, strict=True)]

    def _empty(self) -> Encodings:
        bundle = self.bundle
        words = (bundle.local_bits or 0) // 64
        regional = "cells" in self._names
        features = np.zeros((0, 1), np.float32)
        return Encodings(
            code=np.zeros((0, bundle.bits // 8), np.uint8),
            content=np.zeros((0, bundle.content_dim), np.int8),
            cells=np.zeros((0, GRID, GRID, words), np.uint64) if regional else None,
            cell_mask=np.zeros((0, GRID, GRID), bool) if regional else None,
            modality=[] if bundle.modalities else None,
            outlier=None if self._scorer is None else self._scorer.verdicts(features),
        )


def usable_cores() -> int:
    """Cores this process may use; all of the machine's where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(bundle: Bundle) -> float:
    """Share of golden bits that come out on this host as where the bundle was made, 0 to 1."""
    if not bundle.spec.get("golden"):
        raise BundleError(f"bundle {bundle.name} has no golden inputs; export it again")
    values = code_values(open_session(bundle.graph), bundle.golden_inputs())
    return float(((values > 0) == bundle.golden_bits()).mean())


def golden_message(bundle: Bundle, share: float) -> str:
    """Why this host may not write with a bundle, and what to do."""
    return (
        f"{share:.1%} of the golden bits of bundle {bundle.name} come out on this host as where it was made, "
        f"{GOLDEN_SHARE:.1%} are needed to write: search here, index on the host that made the archive, "
        "or install the same onnxruntime version there and here"
    )


def _pixels(image: PreparedImage | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    pixels = image if isinstance(image, np.ndarray) else image.pixels
    if pixels.dtype != np.uint8 or pixels.shape != (SIZE, SIZE):
        raise InputError(
            f"an image of shape {pixels.shape} and type {pixels.dtype} cannot be encoded; "
            f"prepare it to uint8 [{SIZE}, {SIZE}] with medlike.imaging.prepare"
        )
    return np.ascontiguousarray(pixels)


def _mask(image: PreparedImage | npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    if isinstance(image, np.ndarray):
        return np.ones((GRID, GRID), dtype=bool)
    return image.letterbox.valid_cells(GRID)


def _packed_cells(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """Local code values, float32 [N, 14, 14, L], as uint64 [N, 14, 14, L/64]; a bit is value > 0."""
    return np.packbits(values > 0, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
