"""Encoder: run a bundle on images, on all cores, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from medlike.bundle import Bundle, default
from medlike.bundle.session import INPUT, code_values
from medlike.errors import BundleError, InputError
from medlike.inference.encoding import Encodings, quantised
from medlike.inference.golden_cache import cached_share
from medlike.inference.outlier import OutlierScorer
from medlike.types import F32, U8, U64, Array, Mask

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

    from medlike.imaging import Image

GRID = 14
# Under this the most probable modality is called unknown.
MODALITY_FLOOR = 0.5
# Share of golden bits under which a host may search but not write.
GOLDEN_SHARE = 0.995


class _Letterbox(Protocol):
    def valid_cells(self, grid: int = GRID) -> Mask: ...


@runtime_checkable
class PreparedImage(Protocol):
    """An image as `imaging.prepare` returns it: pixels uint8 [S, S] and its letterbox."""

    @property
    def pixels(self) -> U8:
        """Return the square picture: uint8 [S, S], 0 outside of the image."""
        ...

    @property
    def letterbox(self) -> _Letterbox:
        """Return where the image lies in the square."""
        ...


#: An image that needs no preparation; an array is taken to be all image and no padding.
Square: TypeAlias = PreparedImage | U8
#: An image in any form that `Encoder.encode` takes.
Encodable: TypeAlias = "str | Path | Array | Image | Pillow | PreparedImage"


class Encoder:
    """Run an image bundle: images in, codes and vectors out.

    Every image runs alone and on one thread, so its code depends on nothing but the image and the bundle. Several
    images run beside each other. An encoder can be used from several threads. Close it with `close` or as a context
    manager.
    """

    def __init__(
        self, bundle: Bundle | str | Path | None = None, threads: int | None = None, threshold: float | None = None
    ) -> None:
        """Load a bundle.

        Args:
            bundle: The name of a shipped bundle, a folder, or a loaded bundle; the default one unless given.
            threads: Images that run at the same time; one per core unless given.
            threshold: p-value up to which an image is an outlier, 0 to 1; the bundle's own unless given.

        Raises:
            BundleError: The bundle is missing or damaged, or a text bundle.
            InputError: `threads` or `threshold` is out of range.
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; a p-value lies between 0 and 1")
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}; give 1 or more, or leave it out for all cores")
        if not isinstance(bundle, Bundle):
            bundle = Bundle.load(default() if bundle is None else bundle)
        if bundle.kind != "image":
            raise BundleError(f"{bundle.name} is a text bundle; give an image bundle such as {default()}")
        self.bundle = bundle
        self.threads = threads or usable_cores()
        #: The side of the pictures that it takes, pixels.
        self.image_size = bundle.image_size
        self._session = bundle.session()
        self._names = bundle.outputs
        self._scorer = OutlierScorer.of(bundle)
        if self._scorer is not None and threshold is not None:
            self._scorer.threshold = threshold
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="medlike-encode")

    def encode(self, images: Sequence[Encodable]) -> Encodings:
        """Encode images.

        Args:
            images: A mixture of paths, arrays [H, W] or [H, W, 3], Pillow pictures, `Image`s and results of
                `imaging.prepare`. Of a file with several frames the middle one is encoded. An array uint8
                [S, S], S being `image_size`, is encoded as it is; every other image is first rendered and letterboxed.

        Returns:
            The encodings as NumPy arrays, in the order of `images`.

        Raises:
            ImageError: A file or an array cannot be read.
            InputError: `images` is one image and not a sequence, or holds something that is no image.
        """
        if isinstance(images, str | Path) or (isinstance(images, np.ndarray) and not _is_stack(images)):
            raise InputError("one image was given where several are expected: put it into a list")
        if not len(images):
            return self._empty()
        prepared = list(self._pool.map(self._prepared, images))
        return self.encodings(self.outputs(prepared), prepared)

    def outputs(self, images: Sequence[Square]) -> dict[str, F32]:
        """Return all outputs of the graph for one or more prepared images, by name: float32 [N, ...].

        Args:
            images: Arrays uint8 [S, S], S being `image_size`, or results of `imaging.prepare`; at least one.

        Raises:
            InputError: An image is not uint8 [S, S].
        """
        rows = list(self._pool.map(self._run, [self._pixels(image) for image in images]))
        return {name: np.concatenate([row[i] for row in rows]) for i, name in enumerate(self._names)}

    def features(self, images: Sequence[Square], output: str) -> F32:
        """Return one output of the graph for prepared images: float32 [N, ...].

        Args:
            images: As for `outputs`.
            output: Name of the output.

        Raises:
            BundleError: The bundle has no output of this name.
        """
        if output not in self._names:
            raise BundleError(f"bundle {self.bundle.name} has no output {output!r}; it has: {', '.join(self._names)}")
        return self.outputs(images)[output]

    @cached_property
    def golden_share(self) -> float:
        """Return the share of golden bits that this host computes as the bundle's maker did, 0 to 1."""
        return cached_share(self.bundle.digest, self._measured_share, GOLDEN_SHARE)

    def _measured_share(self) -> float:
        values = self.features(list(self.bundle.golden_inputs()), "bits")
        return float(((values > 0) == self.bundle.golden_bits()).mean())

    def require_golden(self) -> None:
        """Check that this host computes the codes that other hosts compute.

        Raises:
            BundleError: Too many golden bits differ; this host can search and must not write.
        """
        if self.golden_share < GOLDEN_SHARE:
            raise BundleError(golden_message(self.bundle, self.golden_share))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True)

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _prepared(self, image: Encodable) -> Square:
        """Return an image as the network takes it: prepared, or an array uint8 [S, S]."""
        if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (self.image_size,) * 2:
            return image
        if isinstance(image, PreparedImage) and not isinstance(image, np.ndarray):
            return image
        from medlike.imaging import as_image, prepare

        read = as_image(image)
        if read is None:
            raise InputError(
                f"{type(image).__name__} cannot be encoded: give a path, an array, a Pillow picture or an Image"
            )
        return prepare(read, self.image_size)

    def _pixels(self, image: Square) -> U8:
        pixels = image if isinstance(image, np.ndarray) else image.pixels
        size = self.image_size
        if pixels.dtype != np.uint8 or pixels.shape != (size, size):
            raise InputError(
                f"an image of shape {pixels.shape} and type {pixels.dtype} cannot be encoded; "
                f"prepare it to uint8 [{size}, {size}] with medlike.imaging.prepare"
            )
        return np.ascontiguousarray(pixels)

    def _run(self, picture: U8) -> list[Array]:
        outputs: list[Array] = self._session.run(self._names, {INPUT: picture[None]})
        return outputs

    def encodings(self, outputs: dict[str, F32], images: Sequence[Square]) -> Encodings:
        """Return encodings from what `outputs` returned for the same prepared images.

        Args:
            outputs: Outputs of the graph by name, float32 [N, ...].
            images: The N images.

        Raises:
            BundleError: The graph gives values that are not finite.
        """
        if not np.isfinite(outputs["bits"]).all():
            raise BundleError(f"bundle {self.bundle.name} gives values that are not finite; export it again")
        shape = outputs["content"].shape[1:]
        if shape != (self.bundle.content_dim,):
            raise BundleError(
                f"bundle {self.bundle.name} gives content of shape {list(shape)}, its specification says "
                f"{self.bundle.content_dim} numbers; export it again"
            )
        modality = self.modalities(outputs.get("modality"))
        outlier = None
        if self._scorer is not None:
            outlier = self._scorer.verdicts(outputs["outlier_features"], modality, outputs.get("reconstruction_error"))
        return Encodings(
            code=np.packbits(outputs["bits"] > 0, axis=1),
            content=quantised(outputs["content"]),
            cells=_packed_cells(outputs["cells"]) if "cells" in outputs else None,
            cell_mask=np.stack([_mask(image) for image in images]) if "cells" in outputs else None,
            modality=modality,
            outlier=outlier,
        )

    def modalities(self, probabilities: F32 | None) -> list[str | None] | None:
        """Return the names of the most probable modalities, None for an image where none reaches one half.

        Args:
            probabilities: Output "modality", float32 [N, M].

        Returns:
            N names, or None if the bundle predicts no modality.
        """
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
    """Return how many cores this process may use; all of the machine if the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check(bundle: Bundle) -> float:
    """Return the share of golden bits that this host computes as the bundle's maker did, 0 to 1.

    Raises:
        BundleError: The bundle has no golden inputs.
    """
    if not bundle.spec.get("golden"):
        raise BundleError(f"bundle {bundle.name} has no golden inputs; export it again")
    values = code_values(bundle.session(), bundle.golden_inputs())
    return float(((values > 0) == bundle.golden_bits()).mean())


def golden_message(bundle: Bundle, share: float) -> str:
    """Return why this host must not write with a bundle, and what to do."""
    return (
        f"{share:.1%} of the golden bits of bundle {bundle.name} come out on this host as where it was made, "
        f"{GOLDEN_SHARE:.1%} are needed to write: search here, index on the host that made the archive, "
        "or install the same onnxruntime version there and here"
    )


def _is_stack(images: Array) -> bool:
    """Return True for an array that holds several images: [N, H, W] or [N, H, W, 3]."""
    return images.ndim == 4 or (images.ndim == 3 and images.shape[-1] != 3) or not images.size


def _mask(image: Square) -> Mask:
    if isinstance(image, np.ndarray):
        return np.ones((GRID, GRID), dtype=bool)
    return image.letterbox.valid_cells(GRID)


def _packed_cells(values: F32) -> U64:
    """Return local code values, float32 [N, 14, 14, L], as uint64 [N, 14, 14, L/64]; a bit is value > 0."""
    return np.packbits(values > 0, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
