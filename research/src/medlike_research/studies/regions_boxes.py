"""Images with labelled boxes as the regional study sees them: turned galleries, query windows, floors, ceilings.

Everything is in letterboxed pixels, 224 a side: a quarter turn or reflection of the square is one of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medlike.codes.templates import GRID, SCALES, Template, oriented
from medlike.datasets import Dataset, Split, coarse_class, prepare_samples
from medlike.errors import DatasetError
from medlike.imaging.letterbox import SIZE
from medlike.metrics.localisation import iou

SIDE = SIZE // GRID
THRESHOLD = 0.5
FOLDS = 5
LEAST = 20  # images with boxes that a source needs
PARTS = ("calibration", "gallery", "query")
ALL_PARTS = ("train", "validation", *PARTS)
GUESSES = 20  # random boxes an image
BOUNDED = 25  # images of a query's gallery over which its floors and ceilings are taken


@dataclass(frozen=True)
class Boxed:
    """N images with boxes. pixels: uint8 [N,224,224] as they are; turned: turned and mirrored at random by `turn`.

    boxes, turned_boxes: float [B,4] of each image; inner, turned_inner: [N,4], where the image lies in the square.
    valid, turned_valid: bool [N,14,14]. asked: which box of each image is the query. spans: int [N,4], the cells of
    that box: row0, column0, row1, column1. fold: int [N]. held: bool [N], whether an image took no part in training or
    choice: only such images ask, and only they are searched but where everything is.
    """

    samples: Dataset
    units: np.ndarray
    fold: np.ndarray
    pixels: np.ndarray
    turned: np.ndarray
    turn: np.ndarray
    boxes: list[np.ndarray]
    turned_boxes: list[np.ndarray]
    inner: np.ndarray
    turned_inner: np.ndarray
    valid: np.ndarray
    turned_valid: np.ndarray
    asked: np.ndarray
    spans: np.ndarray
    held: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def sources(self) -> np.ndarray:
        """str [N]."""
        return self.samples.column("source")

    @property
    def classes(self) -> np.ndarray:
        """Coarse class of each, str [N]: what a region of it is called."""
        return np.array([coarse_class(sample) for sample in self.samples], dtype=np.str_)

    def query_box(self, row: int) -> np.ndarray:
        """Return the box that a query asks with: x0, y0, x1, y1, pixels, half-open."""
        return self.boxes[row][self.asked[row]]

    def gallery(self, row: int, anywhere: bool = False, everything: bool = False) -> np.ndarray:
        """Rows that a query is searched in: the other folds, of its own source unless `anywhere`.

        everything: images of the training and validation parts too, as in an archive that holds them.
        """
        apart = (self.fold != self.fold[row]) & (self.units != self.units[row])
        rows = np.flatnonzero(apart & (self.held | everything))
        return rows if anywhere else rows[self.sources[rows] == self.sources[row]]

    @property
    def queries(self) -> np.ndarray:
        """Rows that ask."""
        return np.flatnonzero(self.held)


def boxed_images(data: Dataset, split: Split, seed: int = 0) -> Boxed:
    """Images that have boxes, of every source with enough of them held out. DatasetError where there is none."""
    found = split.part(data, *ALL_PARTS).where(lambda s: bool(s.boxes) and not s.is_ood)
    outside = {sample.path for sample in split.part(found, *PARTS)}
    held = np.array([sample.path in outside for sample in found])
    names, counts = np.unique(found.column("source")[held], return_counts=True)
    kept = set(names[counts >= LEAST].tolist())
    found = found.where(lambda s: s.source in kept)
    if not len(found):
        raise DatasetError(f"no source of {data.name} has {LEAST} images with boxes in {', '.join(PARTS)}")
    held = np.array([sample.path in outside for sample in found])
    random = np.random.default_rng(seed)
    prepared = list(prepare_samples(found))
    turn = random.integers(0, 8, len(found))
    pixels = np.stack([p.pixels for p in prepared])
    valid = np.stack([p.letterbox.valid_cells() for p in prepared])
    boxes = [np.array([p.letterbox.to_box(b) for b in s.boxes]) for p, s in zip(prepared, found, strict=True)]
    places = [p.letterbox for p in prepared]
    inner = np.array([(x.left, x.top, x.left + x.inner_width, x.top + x.inner_height) for x in places], np.float64)
    asked = np.array([random.integers(len(own)) for own in boxes])
    spans = np.array([p.letterbox.cells(s.boxes[n]) for p, s, n in zip(prepared, found, asked, strict=True)])
    units = split.units(found)
    numbers = np.unique(units)
    folds = dict(zip(random.permutation(numbers).tolist(), (np.arange(len(numbers)) % FOLDS).tolist(), strict=True))
    return Boxed(
        found,
        units,
        np.array([folds[unit] for unit in units.tolist()]),
        pixels,
        np.stack([turned_square(each, t) for each, t in zip(pixels, turn, strict=True)]),
        turn,
        boxes,
        [turned_boxes(own, t) for own, t in zip(boxes, turn, strict=True)],
        inner,
        np.concatenate([turned_boxes(own[None], t) for own, t in zip(inner, turn, strict=True)]),
        valid,
        np.stack([turned_square(each, t) for each, t in zip(valid, turn, strict=True)]),
        asked,
        spans,
        held,
    )


def turned_square(square: np.ndarray, turn: int) -> np.ndarray:
    """A square array mirrored left to right where turn >= 4, then turned anticlockwise `turn % 4` times."""
    return oriented(square, int(turn))


def turned_back(squares: np.ndarray, turn: int) -> np.ndarray:
    """Square arrays [N,S,S,...] as they were before `turned_square` turned each."""
    upright = np.rot90(squares, -(int(turn) % 4), axes=(1, 2))
    return upright[:, :, ::-1] if turn >= 4 else upright


def combined(first: int, second: int) -> int:
    """The turn that does what one turn and then another do."""
    quarters = second + (-first if second >= 4 else first)
    return quarters % 4 + 4 * ((first >= 4) != (second >= 4))


def turned_boxes(boxes: np.ndarray, turn: int, side: float = SIZE) -> np.ndarray:
    """Boxes [B,4] as `turned_square` moves what is in them."""
    x0, y0, x1, y1 = np.asarray(boxes, np.float64).T
    if turn >= 4:
        x0, x1 = side - x1, side - x0
    for _ in range(int(turn) % 4):
        x0, y0, x1, y1 = y0, side - x1, y1, side - x0
    return np.stack([x0, y0, x1, y1], axis=1)


def turned_span(span: np.ndarray, turn: int) -> np.ndarray:
    """Cells row0, column0, row1, column1 as `turned_square` moves them."""
    row0, column0, row1, column1 = span
    x0, y0, x1, y1 = turned_boxes(np.array([[column0, row0, column1, row1]]), turn, GRID)[0].astype(int)
    return np.array([y0, x0, y1, x1])


def template_of(
    cells: np.ndarray,
    valid: np.ndarray,
    span: np.ndarray,
    orientations: int = 8,
    scales: Sequence[float] = SCALES,
    turned: np.ndarray | None = None,
) -> Template:
    """The template of a window of one image: cells uint64 [14,14,W], valid bool [14,14], span of the window.

    turned: uint64 [7,14,14,W], the cells as seen in the other orientations; None rearranges those of the image.
    """
    row0, column0, row1, column1 = span
    counted = valid[row0:row1, column0:column1]
    if not counted.any():
        counted = np.ones_like(counted)
    own = np.ascontiguousarray(cells[row0:row1, column0:column1])
    others = None if turned is None else np.ascontiguousarray(turned[:, row0:row1, column0:column1])
    return Template.of(own, counted, orientations, tuple(scales), others)


def window_boxes(
    top: np.ndarray, left: np.ndarray, height: np.ndarray, width: np.ndarray, inner: np.ndarray
) -> np.ndarray:
    """Windows of cells as boxes [M,4], cut to the image as search answers them; inner [M,4] or [4]."""
    found = np.stack([left, top, left + width, top + height], axis=-1) * float(SIDE)
    inner = np.broadcast_to(inner, found.shape)
    return np.concatenate([np.maximum(found[:, :2], inner[:, :2]), np.minimum(found[:, 2:], inner[:, 2:])], axis=1)


def reached(boxes: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Which boxes [M,4] have the IoU with one of the labelled ones [B,4]: bool [M]."""
    usable = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    found = np.zeros(len(boxes), bool)
    if usable.any():
        found[usable] = iou(boxes[usable], labelled).max(axis=1) >= THRESHOLD
    return found


def some_of(rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """At most BOUNDED of the rows, in order."""
    return np.sort(random.permutation(rows)[:BOUNDED])


def guesses(boxed: Boxed, row: int, rows: np.ndarray, random: np.random.Generator) -> dict[str, float]:
    """Return hit rates over gallery images of boxes that do not look at the picture.

    They have the query's size at random places, its relative position, or lie at the centre.
    """
    asked, own = boxed.query_box(row), boxed.inner[row]
    width, height = asked[2:] - asked[:2]
    shape = own[2:] - own[:2]
    relative = (asked - np.tile(own[:2], 2)) / np.tile(shape, 2)
    hits = {"random box": 0.0, "same position": 0.0, "centre box": 0.0}
    for other in rows:
        inner, labelled = boxed.turned_inner[other], boxed.turned_boxes[other]
        low, high = inner[:2], inner[2:]
        size = np.minimum([width, height], high - low)
        corners = low + random.random((GUESSES, 2)) * (high - low - size)
        hits["random box"] += float(reached(np.concatenate([corners, corners + size], axis=1), labelled).mean())
        same = np.tile(low, 2) + relative * np.tile(high - low, 2)
        hits["same position"] += float(reached(same[None], labelled)[0])
        middle = (low + high) / 2
        hits["centre box"] += float(reached(np.concatenate([middle - size / 2, middle + size / 2])[None], labelled)[0])
    return {name: value / max(1, len(rows)) for name, value in hits.items()}


def ceiling(boxed: Boxed, row: int, rows: np.ndarray, scales: Sequence[float] = SCALES) -> float:
    """Share of gallery images in which some window of the allowed shapes, placed perfectly, reaches the IoU."""
    empty = np.zeros((GRID, GRID, 1), np.uint64)
    template = template_of(empty, boxed.valid[row], boxed.spans[row], 8, scales)
    shapes = {arrangement.shape for arrangement in template.arrangements}
    hits = 0
    for other in rows:
        valid = boxed.turned_valid[other]
        parts = []
        for height, width in shapes:
            inside = np.lib.stride_tricks.sliding_window_view(valid, (height, width)).all(axis=(2, 3))
            top, left = np.nonzero(inside)
            parts.append(window_boxes(top, left, np.array(height), np.array(width), boxed.turned_inner[other]))
        boxes = np.concatenate(parts) if parts else np.zeros((0, 4))
        hits += bool(len(boxes) and reached(boxes, boxed.turned_boxes[other]).any())
    return hits / max(1, len(rows))
