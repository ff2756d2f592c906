"""Letterboxing: a picture of any shape inside a square, and the way back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medlike.imaging.arrays import resized
from medlike.types import U8, Box, Mask

SIZE = 224
GRID = 14


@dataclass(frozen=True)
class Letterbox:
    """Where a picture lies in its letterboxed square.

    size: side of the square. height, width: of the source, pixels. inner_height, inner_width: of the scaled
    picture, at least 1. top, left: its first row and column in the square. Boxes are x0, y0, x1, y1,
    half-open. The map is affine in each axis (inner / source, which differ between axes by less than half a
    pixel's rounding), so `from_box` is the inverse of `to_box` up to floating-point rounding.
    """

    size: int
    height: int
    width: int
    inner_height: int
    inner_width: int
    top: int
    left: int

    @classmethod
    def of(cls, height: int, width: int, size: int = SIZE) -> "Letterbox":
        """Make the letterbox of height x width pixels: isotropic, centred (an odd pixel goes below, or right)."""
        longest = max(height, width)
        inner_height = max(1, (2 * height * size + longest) // (2 * longest))
        inner_width = max(1, (2 * width * size + longest) // (2 * longest))
        return cls(
            size,
            height,
            width,
            inner_height,
            inner_width,
            (size - inner_height) // 2,
            (size - inner_width) // 2,
        )

    @property
    def scale(self) -> float:
        """Return how many letterboxed pixels a source pixel takes, along the longer side."""
        return self.size / max(self.height, self.width)

    def to_box(self, box: Sequence[float]) -> Box:
        """Map a box from source pixels to letterboxed pixels."""
        x0, y0, x1, y1 = box
        return (
            self.left + x0 * self.inner_width / self.width,
            self.top + y0 * self.inner_height / self.height,
            self.left + x1 * self.inner_width / self.width,
            self.top + y1 * self.inner_height / self.height,
        )

    def from_box(self, box: Sequence[float]) -> Box:
        """Map a box from letterboxed pixels to source pixels; it is not clipped to the picture."""
        x0, y0, x1, y1 = box
        return (
            (x0 - self.left) * self.width / self.inner_width,
            (y0 - self.top) * self.height / self.inner_height,
            (x1 - self.left) * self.width / self.inner_width,
            (y1 - self.top) * self.height / self.inner_height,
        )

    def valid_cells(self, grid: int = GRID) -> Mask:
        """Return which cells show the picture: bool [grid, grid], true where the cell's centre is image.

        In a picture so thin that it passes between the centres, the cells around its middle line are valid.
        """
        rows = self._valid(self.top, self.inner_height, grid)
        columns = self._valid(self.left, self.inner_width, grid)
        return np.logical_and.outer(rows, columns)

    def cells(self, box: Sequence[float], grid: int = GRID) -> tuple[int, int, int, int]:
        """Return the cells that hold a box of source pixels: row0, column0, row1, column1, half-open, at least one.

        Rows floor(y0 / side) to ceil(y1 / side) in letterboxed pixels, columns likewise, clipped to the grid.
        """
        x0, y0, x1, y1 = self.to_box(box)
        side = self.size / grid
        row0, row1 = _span(y0 / side, y1 / side, grid)
        column0, column1 = _span(x0 / side, x1 / side, grid)
        return row0, column0, row1, column1

    def _valid(self, start: int, length: int, grid: int) -> Mask:
        centres = (np.arange(grid) + 0.5) * (self.size / grid)
        valid = (centres >= start) & (centres < start + length)
        if not valid.any():
            valid[int((start + length / 2) * grid / self.size)] = True
        return valid


def letterbox(grey: U8, size: int = SIZE) -> tuple[U8, Letterbox]:
    """Scale a picture into a square, padded with 0.

    grey: uint8 [H, W]. Returns uint8 [size, size] and the Letterbox. Resampling is Pillow's bilinear filter,
    antialiased when shrinking, in fixed-point arithmetic: the same bytes on every machine and with any
    number of threads.
    """
    place = Letterbox.of(grey.shape[0], grey.shape[1], size)
    inner = grey
    if (place.inner_height, place.inner_width) != grey.shape:
        inner = resized(grey, place.inner_height, place.inner_width)
    square = np.zeros((size, size), np.uint8)
    square[place.top : place.top + place.inner_height, place.left : place.left + place.inner_width] = inner
    return square, place


def _span(start: float, stop: float, grid: int) -> tuple[int, int]:
    # An edge that lies on a cell's edge must not spill into the next cell through rounding.
    first = min(max(math.floor(start + 1e-6), 0), grid - 1)
    last = min(max(math.ceil(stop - 1e-6), first + 1), grid)
    return first, last
