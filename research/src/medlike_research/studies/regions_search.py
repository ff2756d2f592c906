"""The ways of finding a region that the study compares: bits, real codes, cell weights, pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from medlike.archive.index.cell_sample import IMAGES
from medlike.codes import hamming
from medlike.codes.packing import pack
from medlike.codes.templates import CELLS, GRID, SCALES, Arrangement, Template
from medlike.codes.windows import match
from medlike.inference import Encoder
from medlike_research.studies.regions_boxes import (
    Boxed,
    reached,
    template_of,
    turned_span,
    turned_square,
    window_boxes,
)

TOP = 10
# Pixels a cell's side in template correlation.
FINE = 4
FLAT = 1e-3


@dataclass(frozen=True)
class Cells:
    """Local codes of N images. real: float16 [N,14,14,L], before the sign; weight: float32 [N,14,14] or None.

    code: uint8 [N, bits / 8] of the whole images, or None.
    """

    real: np.ndarray
    weight: np.ndarray | None
    code: np.ndarray | None = None

    def packed(self) -> np.ndarray:
        """uint64 [N,14,14,L/64]; a bit is real > 0."""
        return np.packbits(self.real > 0, axis=-1, bitorder="little").view("<u8").astype(np.uint64)

    def unit(self, row: int) -> np.ndarray:
        """Real codes of one image, each of length one: float32 [196,L]."""
        real = self.real[row].reshape(CELLS, -1).astype(np.float32)
        return real / np.maximum(np.linalg.norm(real, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class Found:
    """The best window of M gallery images. rows: int64 [M]; distance: float [M]; box: float [M,4], cut to the image."""

    rows: np.ndarray
    distance: np.ndarray
    box: np.ndarray

    def first(self, k: int = TOP) -> np.ndarray:
        """Places of the k nearest, nearest first."""
        return np.lexsort((self.rows, self.distance))[:k]


def encode_cells(encoder: Encoder, pixels: np.ndarray, batch: int = 64) -> Cells:
    """Cells and whole-image codes of pictures uint8 [N,224,224] by a bundle that has local codes."""
    real, weight, code = [], [], []
    for start in range(0, len(pixels), batch):
        given = encoder.outputs(list(pixels[start : start + batch]))
        real.append(given["cells"].astype(np.float16))
        code.append(pack(given["bits"] > 0))
        if "cell_weight" in given:
            weight.append(given["cell_weight"])
    return Cells(np.concatenate(real), np.concatenate(weight) if weight else None, np.concatenate(code))


def by_bits(
    boxed: Boxed,
    query: np.ndarray,
    gallery: np.ndarray,
    row: int,
    rows: np.ndarray,
    *,
    turn: int = 0,
    orientations: int = 8,
    scales: Sequence[float] = SCALES,
    standardised: bool = True,
) -> Found:
    """Search as the archive does.

    query: uint64 [1 or 8,14,14,W], cells of the query turned by `turn`, as seen upright or in each orientation.
    gallery: uint64 [N,14,14,W].
    standardised: whether windows of different size are compared by how unlikely they are.
    """
    valid = turned_square(boxed.valid[row], turn)
    turned = query[1:] if len(query) > 1 else None
    template = template_of(query[0], valid, turned_span(boxed.spans[row], turn), orientations, scales, turned)
    if standardised:
        # The gallery has no ids: images evenly apart stand for those with the smallest.
        some = rows[np.linspace(0, len(rows) - 1, min(IMAGES, len(rows))).astype(int)]
        template = template.standardised(gallery[some][boxed.turned_valid[some]])
    masks = np.packbits(boxed.turned_valid.reshape(len(boxed), CELLS), axis=1)
    found = match(gallery, masks, template, rows, np.inf, "compiled")
    sides = np.array([arrangement.shape for arrangement in template.arrangements])[found.arrangement].reshape(-1, 2)
    box = window_boxes(found.top, found.left, sides[:, 0], sides[:, 1], boxed.turned_inner[found.rows])
    return Found(found.rows, found.distance, box)


def shortlisted(query: np.ndarray, gallery: np.ndarray, rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """At which place by whole-image code, nearest first, some of the rows lie: int64 [len(wanted)], from 0.

    query: uint8 [B]; gallery: uint8 [N,B]; rows: int64 [M], ascending; wanted: int64, among rows.
    """
    near = hamming.distances(np.ascontiguousarray(gallery[rows]), query, "numpy")
    order = rows[np.lexsort((rows, near))]
    place = np.empty(len(gallery), np.int64)
    place[order] = np.arange(len(order))
    return place[wanted]


def by_cosine(
    boxed: Boxed, query: Cells, gallery: Cells, row: int, rows: np.ndarray, weight: np.ndarray | None = None
) -> Found:
    """The same windows by the mean cosine of real codes. weight: float [14,14], of its cells; None: alike."""
    template = template_of(np.zeros((GRID, GRID, 1), np.uint64), boxed.valid[row], boxed.spans[row])
    row0, column0, row1, column1 = boxed.spans[row]
    inside = np.arange(CELLS).reshape(GRID, GRID)[row0:row1, column0:column1].ravel()
    asked = query.unit(row)[inside]
    stored = np.stack([gallery.unit(int(other)) for other in rows])
    planes = (1 - stored @ asked.T).transpose(2, 0, 1).reshape(len(inside), len(rows), GRID, GRID)
    shares = np.ones(len(inside)) if weight is None else weight.ravel()[inside] + 1e-6
    return _best(boxed, template, planes, shares, rows)


def by_weighted_bits(
    boxed: Boxed, query: np.ndarray, gallery: np.ndarray, row: int, rows: np.ndarray, weight: np.ndarray
) -> Found:
    """Windows of bits, each of the query's cells counting by its weight: float [14,14]."""
    template = template_of(query, boxed.valid[row], boxed.spans[row])
    row0, column0, row1, column1 = boxed.spans[row]
    asked = query[row0:row1, column0:column1].reshape(-1, query.shape[-1])
    flips = np.bitwise_count(gallery[rows][:, None] ^ asked[None, :, None, None]).sum(axis=4, dtype=np.float32)
    shares = weight[row0:row1, column0:column1].ravel() + 1e-6
    return _best(boxed, template, flips.transpose(1, 0, 2, 3), shares, rows)


def _best(boxed: Boxed, template: Template, planes: np.ndarray, shares: np.ndarray, rows: np.ndarray) -> Found:
    """The nearest window of each image from planes [C,M,14,14]: distance of every image cell to each query cell."""
    number = len(rows)
    valid = boxed.turned_valid[rows]
    best = np.full(number, np.inf)
    box = np.zeros((number, 4))
    for arrangement in template.arrangements:
        height, width = arrangement.shape
        down, across = GRID - height + 1, GRID - width + 1
        sums, total = np.zeros((number, down, across), np.float32), 0.0
        fits = np.ones((number, down, across), bool)
        for (i, j), cell in np.ndenumerate(arrangement.cells):
            if cell >= 0:
                sums += np.float32(shares[cell]) * planes[cell][:, i : i + down, j : j + across]
                fits &= valid[:, i : i + down, j : j + across]
                total += shares[cell]
        near = np.where(fits, sums / total, np.inf).reshape(number, -1)
        at = near.argmin(axis=1)
        value = near[np.arange(number), at]
        better = value < best
        best[better] = value[better]
        windows = window_boxes(at // across, at % across, np.array(height), np.array(width), boxed.turned_inner[rows])
        box[better] = windows[better]
    kept = np.isfinite(best)
    return Found(rows[kept], best[kept], box[kept])


class Correlation:
    """Dense template correlation: the query's pixels slid over every picture, 4 pixels to a cell."""

    def __init__(self, boxed: Boxed) -> None:
        self.boxed = boxed
        self.small = _shrunk(boxed.pixels)
        self.large = _shrunk(boxed.turned)
        side = self.large.shape[1]
        self.shape = (2 * side, 2 * side)
        self.spectra = fft.rfft2(self.large, self.shape, axes=(1, 2)).astype(np.complex64)
        self.squares = fft.rfft2(self.large**2, self.shape, axes=(1, 2)).astype(np.complex64)

    def search(self, row: int, rows: np.ndarray) -> Found:
        """The best place by normalised correlation over the same orientations and scales as the codes have."""
        boxed = self.boxed
        row0, column0, row1, column1 = boxed.spans[row] * FINE
        patch = self.small[row][row0:row1, column0:column1]
        template = template_of(np.zeros((GRID, GRID, 1), np.uint64), boxed.valid[row], boxed.spans[row])
        best = np.full(len(rows), np.inf)
        box = np.zeros((len(rows), 4))
        side = self.large.shape[1]
        for arrangement in template.arrangements:
            pattern = _arranged(patch, arrangement)
            height, width = pattern.shape
            centred = pattern - pattern.mean()
            norm = float(np.sqrt((centred**2).sum()))
            if norm < FLAT:
                continue
            down, across = side - height + 1, side - width + 1
            ones = np.conj(fft.rfft2(np.ones_like(pattern), self.shape))
            against = np.conj(fft.rfft2(centred, self.shape))
            products, sums, squares = (
                fft.irfft2(spectra[rows] * other, self.shape, axes=(1, 2))[:, :down, :across]
                for spectra, other in ((self.spectra, against), (self.spectra, ones), (self.squares, ones))
            )
            spread = np.sqrt(np.maximum(squares - sums**2 / pattern.size, 0))
            near = np.where(spread > FLAT * norm, 1 - products / np.maximum(spread * norm, 1e-9), 1.0)
            flat = near.reshape(len(rows), -1)
            at = flat.argmin(axis=1)
            value = flat[np.arange(len(rows)), at]
            better = value < best
            best[better] = value[better]
            tall, wide = height / FINE, width / FINE
            windows = window_boxes(
                at // across / FINE, at % across / FINE, np.array(tall), np.array(wide), boxed.turned_inner[rows]
            )
            box[better] = windows[better]
        kept = np.isfinite(best)
        return Found(rows[kept], best[kept], box[kept])


def hit_share(boxed: Boxed, found: Found, k: int = TOP) -> float:
    """Share of the k nearest whose box reaches the IoU with a labelled one; NaN where nothing was found."""
    first = found.first(k)
    if not len(first):
        return float("nan")
    hits = [reached(found.box[at][None], boxed.turned_boxes[found.rows[at]])[0] for at in first]
    return float(np.mean(hits))


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    side = GRID * FINE
    step = pixels.shape[1] // side
    small = pixels.reshape(len(pixels), side, step, side, step).mean(axis=(2, 4), dtype=np.float32)
    return np.asarray(small / 255, np.float32)


def _arranged(patch: np.ndarray, arrangement: Arrangement) -> np.ndarray:
    """A patch turned and resampled to the size of an arrangement's window."""
    turned = turned_square(patch, arrangement.orientation)
    height, width = (side * FINE for side in arrangement.shape)
    rows = (2 * np.arange(height) + 1) * turned.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * turned.shape[1] // (2 * width)
    return np.asarray(turned[np.ix_(rows, columns)], np.float32)
