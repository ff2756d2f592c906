"""Templates: the arrangements of a query region that are laid over stored images.

An arrangement is the query's cells turned, mirrored and resampled. Nothing is encoded again: every arrangement is made
of the same few query cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medlike.errors import QueryError

GRID = 14
CELLS = GRID * GRID
SCALES = (1.0, 0.7, 1.4)


@dataclass(frozen=True)
class Arrangement:
    """The query's cells turned, flipped and resampled: a window to be laid over an image.

    cells: int64 [h, w], which query cell lies there (row by row), -1 = not counted. orientation: 0 to 7,
    quarter turns anticlockwise, from 4 on of the query mirrored left to right. scale: of SCALES. bits:
    counted cells times L. shift, factor: the distance of its windows is (share of differing bits - shift) x factor.
    """

    cells: NDArray[np.int64]
    orientation: int
    scale: float
    bits: int
    shift: float = 0.0
    factor: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Return height and width in cells."""
        return self.cells.shape[0], self.cells.shape[1]


@dataclass(frozen=True)
class Template:
    """A query region: codes uint64 [C, L / 64] of its cells, row by row, and the arrangements to be tried."""

    codes: NDArray[np.uint64]
    arrangements: tuple[Arrangement, ...]

    @staticmethod
    def of(
        cells: NDArray[np.uint64],
        counted: NDArray[np.bool_] | None = None,
        orientations: int = 8,
        scales: Sequence[float] = SCALES,
    ) -> "Template":
        """Make a template from the cells of a region.

        Windows larger than the grid are left out, and so are arrangements equal to an earlier one.

        Args:
            cells: uint64 [h, w, L / 64].
            counted: bool [h, w], False in padding; None if all are counted.
            orientations: 8 or 1.
            scales: Sizes of the window beside the query's, of SCALES.

        Raises:
            QueryError: No cell is counted, or an argument makes no sense.
        """
        if cells.ndim != 3 or not (1 <= cells.shape[0] <= GRID and 1 <= cells.shape[1] <= GRID):
            raise QueryError(f"the region's cells are {list(cells.shape)}: they must be [h, w, words] within the grid")
        if orientations not in (1, 8):
            raise QueryError(f"orientations is {orientations!r}: use 8 or 1")
        if not scales or any(scale not in SCALES for scale in scales):
            raise QueryError(f"scales are {list(scales)}: use some of {', '.join(map(str, SCALES))}")
        height, width, words = cells.shape
        shown = np.ones((height, width), bool) if counted is None else np.asarray(counted, bool)
        if not shown.any():
            raise QueryError("the region lies in padding: choose one inside the image")
        numbers = np.where(shown, np.arange(height * width).reshape(height, width), -1)
        arrangements: list[Arrangement] = []
        for scale in scales:
            scaled = _resampled(numbers, scale)
            if scaled is None or not (scaled >= 0).any():
                continue
            for orientation in range(orientations):
                turned = np.rot90(np.fliplr(scaled) if orientation >= 4 else scaled, orientation % 4)
                if any(np.array_equal(turned, other.cells) for other in arrangements):
                    continue
                bits = int((turned >= 0).sum()) * words * 64
                arrangements.append(Arrangement(np.ascontiguousarray(turned), orientation, float(scale), bits))
        codes = np.ascontiguousarray(cells.reshape(height * width, words))
        return Template(codes, tuple(arrangements))

    def standardised(self, cells: NDArray[np.uint64]) -> "Template":
        """Return the template with a distance that compares windows of different size by how unlikely they are.

        By chance, the share of differing bits lies around a mean, and its spread falls with the number of cells, so
        that small windows come near more often. The distance is the share that a window of the first arrangement
        would need to be as many spreads below its mean; for that arrangement itself it is the share.

        The mean is that of the query's cells over the sample. The spread falls as the cube root of the number of
        cells: neighbouring cells are alike, so it falls more slowly than the square root of independent bits.

        Args:
            cells: uint64 [M, W], a sample of the cells of stored images.
        """
        if not len(cells) or not self.arrangements:
            return self
        # Integers up to the last division, so that every machine has the same distances.
        flips = [int(np.bitwise_count(code ^ cells).sum(dtype=np.int64)) for code in self.codes]
        first = self.arrangements[0]
        mean = _mean(first, flips, len(cells))
        scaled = []
        for arrangement in self.arrangements:
            # Rounded, because powers differ in the last digit between machines.
            factor = round((arrangement.bits / first.bits) ** (1 / 3), 6)
            shift = _mean(arrangement, flips, len(cells)) - mean / factor
            if arrangement.scale == first.scale:
                factor, shift = 1.0, 0.0
            scaled.append(replace(arrangement, shift=shift, factor=factor))
        return replace(self, arrangements=tuple(scaled))


def _mean(arrangement: Arrangement, flips: Sequence[int], number: int) -> float:
    """Return the mean share of differing bits of an arrangement, of the sums of its cells over `number` cells."""
    total = sum(flips[int(cell)] for cell in arrangement.cells[arrangement.cells >= 0])
    return total / (arrangement.bits * number)


def _resampled(numbers: NDArray[np.int64], scale: float) -> NDArray[np.int64] | None:
    """Return the cells of a window `scale` times as large, by nearest neighbour; None if it exceeds the grid.

    Sides are rounded half up, in whole tenths, so that 0.7 x 5 is 4 and no float decides.
    """
    tenths = round(10 * scale)
    sides = [max(1, (side * tenths + 5) // 10) for side in numbers.shape]
    if max(sides) > GRID:
        return None
    rows, columns = (
        ((2 * np.arange(side) + 1) * full) // (2 * side) for side, full in zip(sides, numbers.shape, strict=True)
    )
    chosen: NDArray[np.int64] = numbers[np.ix_(rows, columns)]
    return chosen


