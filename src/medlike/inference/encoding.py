"""What a bundle says of an image: its hash code, content vector, local cells and outlier verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from medlike.imaging import Prepared

U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

DEFAULT_THRESHOLD = 0.03


@dataclass(frozen=True)
class Outlier:
    """Verdict on one image. score: higher is stranger; p_value in (0, 1]: at most `threshold` is an outlier.

    components: the parts of the score, for explanation only. modality: whose calibration gave the p-value,
    "pooled" where no modality has enough calibration units.
    """

    score: float
    p_value: float
    components: dict[str, float]
    threshold: float = DEFAULT_THRESHOLD
    modality: str = "pooled"

    @property
    def is_outlier(self) -> bool:
        return self.p_value <= self.threshold

    def verdict(self) -> dict[str, Any]:
        """As a dictionary fit for JSON: is_outlier, p_value, score, threshold, components, modality."""
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
    """Verdicts on N images: score float32 [N], higher is stranger; p float32 [N]; the rest as in Outlier."""

    score: F32
    p: F32
    components: dict[str, F32]
    threshold: float
    modality: list[str]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def is_outlier(self) -> Mask:
        """bool [N]: p at most the threshold."""
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
        """All verdicts in order; the parts come from one bundle, so thresholds and component names agree."""
        return Outliers(
            score=np.concatenate([part.score for part in parts]),
            p=np.concatenate([part.p for part in parts]),
            components={
                name: np.concatenate([part.components[name] for part in parts])
                for name in parts[0].components
            },
            threshold=parts[0].threshold,
            modality=[name for part in parts for name in part.modality],
        )


@dataclass(frozen=True)
class Encoding:
    """What a bundle says of one image; the fields of Encodings without their first axis."""

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
    """What a bundle says of N images. Every part but code and content may be absent.

    code: uint8 [N, bits/8], most significant bit first.
    content: int8 [N, D], centred, L2-normalised, each row scaled so that its largest magnitude is 127;
        similarity of two rows is `similarity(a, b)`, in [-1, 1].
    cells: uint64 [N, 14, 14, L/64], the local codes; bit j of the L stands in word j // 64 at 1 << (j % 64).
    cell_mask: bool [N, 14, 14], true where the cell's centre is image and not padding.
    modality: the modality the bundle predicts, None where it predicts none.
    cross: uint8 [N, C/8], code of the image in the space shared with text; cross_embedding: float32 [N, E].
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
        return Encoding(
            code=self.code[i],
            content=self.content[i],
            cells=None if self.cells is None else self.cells[i],
            cell_mask=None if self.cell_mask is None else self.cell_mask[i],
            modality=None if self.modality is None else self.modality[i],
            outlier=None if self.outlier is None else self.outlier[i],
            cross=None if self.cross is None else self.cross[i],
            cross_embedding=None if self.cross_embedding is None else self.cross_embedding[i],
        )

    def __iter__(self) -> Iterator[Encoding]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def concatenate(parts: Sequence[Encodings]) -> Encodings:
        """All encodings in order. parts: at least one, all from one bundle; ValueError for none."""
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


def _joined(parts: list[Any]) -> Any:
    return None if any(part is None for part in parts) else np.concatenate(parts)


def _joined_outliers(parts: list[Outliers | None]) -> Outliers | None:
    present = [part for part in parts if part is not None]
    return Outliers.concatenate(present) if len(present) == len(parts) else None


def quantised(content: F32) -> I8:
    """Content vectors as int8: float32 [N, D] -> int8 [N, D], centred, normalised, largest magnitude 127.

    The scale of a row carries nothing (similarity divides by the norms), so each row uses the whole range.
    A constant row becomes all zeros.
    """
    centred = content.astype(np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    peak = np.abs(centred).max(axis=1, keepdims=True)
    # Below this a row is constant but for rounding, and scaling it up would show noise as content.
    flat = peak <= 1e-12 * np.maximum(np.abs(content).max(axis=1, keepdims=True), 1e-30)
    scaled = np.where(flat, 0.0, centred / np.where(flat, 1.0, peak) * 127.0)
    return np.rint(scaled).astype(np.int8)


def unit_length(content: I8) -> F32:
    """Return content vectors scaled to length 1, so that the dot product of two is their similarity.

    Args:
        content: int8 [N, D].

    Returns:
        float32 [N, D]. A row of zeros stays one.
    """
    wide = content.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1))


def similarity(query: I8, content: I8) -> F32:
    """Pearson correlation of content vectors: int8 [D] against int8 [N, D] -> float32 [N] in [-1, 1].

    The dot products are exact integers, so the answer does not depend on the order of summation. A row of
    zeros is similar to nothing: 0.
    """
    wide = content.astype(np.int32)
    own = query.astype(np.int32)
    dots = wide @ own
    norms = np.einsum("nd,nd->n", wide, wide).astype(np.float64) * float(own @ own)
    return np.where(norms > 0, dots / np.sqrt(np.maximum(norms, 1.0)), 0.0).astype(np.float32)


class Encodes(Protocol):
    """Anything that encodes prepared images; `inference.Encoder` in practice."""

    def encode(self, images: list[Prepared], /) -> Encodings: ...


def require_golden(encoder: Encodes) -> None:
    """Raise BundleError if this host's codes differ from the bundle's golden ones: it may search but not write."""
    check = getattr(encoder, "require_golden", None)
    if check is not None:
        check()
