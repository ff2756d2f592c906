"""Encodings: what a bundle computes from images: hash code, content vector, local cells, outlier verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from medlike.bundle.phantoms import SIZE
from medlike.errors import BundleError
from medlike.types import F32, I8, U8, U64, JsonObject, Mask

if TYPE_CHECKING:
    from medlike.imaging import Prepared

Kind = TypeVar("Kind", bound=np.generic)

DEFAULT_THRESHOLD = 0.03


@dataclass(frozen=True)
class Outlier:
    """Hold the outlier verdict on one image.

    Attributes:
        score: Higher is less usual.
        p_value: In (0, 1]; an outlier if at most `threshold`.
        components: Parts of the score, for explanation only.
        threshold: Largest p-value of an outlier.
        modality: The modality whose calibration gave the p-value, or "pooled".
    """

    score: float
    p_value: float
    components: dict[str, float]
    threshold: float = DEFAULT_THRESHOLD
    modality: str = "pooled"

    @property
    def is_outlier(self) -> bool:
        """Return True if the p-value is at most the threshold."""
        return self.p_value <= self.threshold

    def verdict(self) -> JsonObject:
        """Return the verdict for JSON: is_outlier, p_value, score, threshold, components, modality."""
        return {
            "is_outlier": self.is_outlier,
            "p_value": self.p_value,
            "score": self.score,
            "threshold": self.threshold,
            "components": dict(self.components),
            "modality": self.modality,
        }


@dataclass(frozen=True)
class Outliers:
    """Hold the outlier verdicts on N images.

    Attributes:
        score: float32 [N], higher is less usual.
        p: p-values, float32 [N], in (0, 1].
        components: Parts of the score by name, float32 [N] each.
        threshold: Largest p-value of an outlier.
        modality: For each image the modality whose calibration gave the p-value, or "pooled".
    """

    score: F32
    p: F32
    components: dict[str, F32]
    threshold: float
    modality: list[str]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def is_outlier(self) -> Mask:
        """Return which images are outliers: bool [N]."""
        return self.p <= np.float32(self.threshold)

    def __getitem__(self, i: int) -> Outlier:
        return Outlier(
            score=float(self.score[i]),
            p_value=float(self.p[i]),
            components={name: float(value[i]) for name, value in self.components.items()},
            threshold=self.threshold,
            modality=self.modality[i],
        )

    @staticmethod
    def concatenate(parts: Sequence[Outliers]) -> Outliers:
        """Return the verdicts of several calls as one; all come from one bundle."""
        return Outliers(
            score=np.concatenate([part.score for part in parts]),
            p=np.concatenate([part.p for part in parts]),
            components={
                name: np.concatenate([part.components[name] for part in parts]) for name in parts[0].components
            },
            threshold=parts[0].threshold,
            modality=[name for part in parts for name in part.modality],
        )


@dataclass(frozen=True)
class Encoding:
    """Hold what a bundle computes from one image: the fields of `Encodings` without their first axis."""

    code: U8
    content: I8
    cells: U64 | None = None
    cell_mask: Mask | None = None
    modality: str | None = None
    outlier: Outlier | None = None
    cross: U8 | None = None
    cross_embedding: F32 | None = None


@dataclass(frozen=True)
class Encodings:
    """Hold what a bundle computes from N images. Parts that the bundle lacks are None.

    Attributes:
        code: uint8 [N, bits/8], most significant bit first.
        content: int8 [N, D], centred, each row scaled so that its largest magnitude is 127.
        cells: Local codes, uint64 [N, 14, 14, L/64]; bit j of the L is in word j // 64 at 1 << (j % 64).
        cell_mask: bool [N, 14, 14], True if the cell's centre is image and not padding.
        modality: Predicted modality of each image; None for an image without a clear one.
        outlier: Verdicts on the images.
        cross: Codes in the space shared with text, uint8 [N, C/8].
        cross_embedding: Embeddings in that space, float32 [N, E].
    """

    code: U8
    content: I8
    cells: U64 | None = None
    cell_mask: Mask | None = None
    modality: list[str | None] | None = None
    outlier: Outliers | None = None
    cross: U8 | None = None
    cross_embedding: F32 | None = None

    def __len__(self) -> int:
        return len(self.code)

    def __getitem__(self, i: int) -> Encoding:
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        rows: JsonObject = {name: None if part is None else part[i] for name, part in parts}
        return Encoding(**rows)

    def __iter__(self) -> Iterator[Encoding]:
        return (self[i] for i in range(len(self)))

    def vectors(self) -> F32:
        """Return the content vectors at length 1: float32 [N, D]. The dot product of two is their similarity."""
        return unit_length(self.content)

    @staticmethod
    def concatenate(parts: Sequence[Encodings]) -> Encodings:
        """Return the encodings of several calls as one.

        Args:
            parts: At least one, all from one bundle.

        Raises:
            ValueError: There is none.
        """
        if not parts:
            raise ValueError("nothing to concatenate: give at least one Encodings")
        modality = None
        if all(part.modality is not None for part in parts):
            modality = [name for part in parts for name in part.modality or ()]
        return Encodings(
            code=np.concatenate([part.code for part in parts]),
            content=np.concatenate([part.content for part in parts]),
            cells=_joined([part.cells for part in parts]),
            cell_mask=_joined([part.cell_mask for part in parts]),
            modality=modality,
            outlier=_joined_outliers([part.outlier for part in parts]),
            cross=_joined([part.cross for part in parts]),
            cross_embedding=_joined([part.cross_embedding for part in parts]),
        )


def _joined(parts: list[NDArray[Kind] | None]) -> NDArray[Kind] | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if len(present) == len(parts) else None


def _joined_outliers(parts: list[Outliers | None]) -> Outliers | None:
    present = [part for part in parts if part is not None]
    return Outliers.concatenate(present) if len(present) == len(parts) else None


def quantised(content: F32) -> I8:
    """Return content vectors, float32 [N, D], as int8 [N, D]: centred, with largest magnitude 127.

    The scale of a row carries nothing (similarity divides by the norms), so each row uses the whole range.
    A constant row becomes all zeros.
    """
    centred = content.astype(np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    peak = np.abs(centred).max(axis=1, keepdims=True)
    # Below this a row is constant but for rounding, and scaling it up would show noise as content.
    flat = peak <= 1e-12 * np.maximum(np.abs(content).max(axis=1, keepdims=True), 1e-30)
    scaled = np.where(flat, 0.0, centred / np.where(flat, 1.0, peak) * 127.0)
    rounded: I8 = np.rint(scaled).astype(np.int8)
    return rounded


def unit_length(content: I8) -> F32:
    """Return content vectors scaled to length 1, so that the dot product of two is their similarity.

    Args:
        content: int8 [N, D].

    Returns:
        float32 [N, D]. A row of zeros stays one.
    """
    wide = content.astype(np.float32)
    scaled: F32 = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1))
    return scaled


def similarity(query: I8, content: I8) -> F32:
    """Return the Pearson correlation of one content vector with others.

    The dot products are exact integers, so the result does not depend on the order of summation.

    Args:
        query: int8 [D].
        content: int8 [N, D].

    Returns:
        float32 [N], -1 to 1; 0 for a row of zeros.
    """
    wide, wide_query = content.astype(np.int32), query.astype(np.int32)
    dots = wide @ wide_query
    norms = np.einsum("nd,nd->n", wide, wide).astype(np.float64) * float(wide_query @ wide_query)
    return np.where(norms > 0, dots / np.sqrt(np.maximum(norms, 1.0)), 0.0).astype(np.float32)


class Encodes(Protocol):
    """Encode prepared images; `inference.Encoder` is one."""

    def encode(self, images: list[Prepared], /) -> Encodings:
        """Return the encodings of images, in their order."""
        ...


def image_size(encoder: Encodes) -> int:
    """Return the side, in pixels, of the pictures that an encoder takes."""
    return int(getattr(encoder, "image_size", SIZE))


def require_golden(encoder: Encodes) -> None:
    """Check that this host computes the codes that other hosts compute.

    Raises:
        BundleError: Too many golden bits differ; this host can search and must not write.
    """
    check = getattr(encoder, "require_golden", None)
    if check is not None:
        check()


def golden_warnings(encoder: object) -> tuple[str, ...]:
    """Return what a search must say of codes that come out on this host otherwise than on others; mostly nothing.

    Args:
        encoder: Of images or texts.
    """
    check = getattr(encoder, "require_golden", None)
    try:
        if check is not None:
            check()
    except BundleError as error:
        return (f"codes of queries may differ from those that are stored: {error}",)
    return ()
