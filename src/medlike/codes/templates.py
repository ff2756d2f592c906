"""Templates: the arrangements of a query region that are laid over stored images.

An arrangement is the query's cells turned, mirrored and resampled. Every arrangement is made of the same few query
cells, or each orientation of the cells that the network sees in the picture turned like that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medlike.errors import QueryError

GRID = 14
CELLS = GRID * GRID
SCALES = (1.0, 0.7, 1.4)
ORIENTATIONS = 8

_Item = TypeVar("_Item", bound=np.generic)


def oriented(square: NDArray[_Item], orientation: int) -> NDArray[_Item]:
    """Return a square [S, S, ...] mirrored left to right from orientation 4 on, then turned anticlockwise.

    Args:
        square: Pixels or cells.
        orientation: 0 to 7; modulo 4 the number of quarter turns.
    """
    return np.rot90(np.fliplr(square) if orientation >= 4 else square, orientation % 4)


def restored(square: NDArray[_Item], orientation: int) -> NDArray[_Item]:
    """Return the square that `oriented` made the given one of."""
    upright = np.rot90(square, -(orientation % 4))
    return np.fliplr(upright) if orientation >= 4 else upright


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
    """A query region: codes uint64 [C, L / 64] of its cells, row by row, and the arrangements to be tried.

    Where each orientation has cells of its own, those of one follow those of another.
    """

    codes: NDArray[np.uint64]
    arrangements: tuple[Arrangement, ...]

    @staticmethod
    def of(
        cells: NDArray[np.uint64],
        counted: NDArray[np.bool_] | None = None,
        orientations: int = 8,
        scales: Sequence[float] = SCALES,
        turned: NDArray[np.uint64] | None = None,
    ) -> "Template":
        """Make a template from the cells of a region.

        Windows larger than the grid are left out, and so are arrangements equal to an earlier one.

        Args:
            cells: uint64 [h, w, L / 64].
            counted: bool [h, w], False in padding; None if all are counted.
            orientations: 8 or 1.
            scales: Sizes of the window beside the query's, of SCALES.
            turned: uint64 [7, h, w, L / 64], the cells of the region in the picture as it looks in orientations 1 to 7,
                each brought back to where it lies in `cells`. None rearranges `cells`.

        Raises:
            QueryError: No cell is counted, or an argument makes no sense.
        """
        if cells.ndim != 3 or not (1 <= cells.shape[0] <= GRID and 1 <= cells.shape[1] <= GRID):
            raise QueryError(f"the region's cells are {list(cells.shape)}: they must be [h, w, words] within the grid")
        if orientations not in (1, ORIENTATIONS):
            raise QueryError(f"orientations is {orientations!r}: use 8 or 1")
        if turned is not None and turned.shape != (ORIENTATIONS - 1, *cells.shape):
            raise QueryError(f"the turned cells are {list(turned.shape)}: they must be {[7, *cells.shape]}")
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
                first = 0 if turned is None else orientation * numbers.size
                window = oriented(np.where(scaled >= 0, scaled + first, -1), orientation)
                if any(np.array_equal(window, other.cells) for other in arrangements):
                    continue
                bits = int((window >= 0).sum()) * words * 64
                arrangements.append(Arrangement(np.ascontiguousarray(window), orientation, float(scale), bits))
        encoded = cells[None] if turned is None or orientations == 1 else np.concatenate([cells[None], turned])
        return Template(np.ascontiguousarray(encoded.reshape(-1, words)), tuple(arrangements))

    def standardised(self, cells: NDArray[np.uint64]) -> "Template":
        """Return the template with a distance that compares windows of different size by how unlikely they are.

        By chance, the share of differing bits lies around a mean, and its spread falls with the number of cells, so
        that small windows come near more often. The distance is the share that a window of the first arrangement
        would need to be as many spreads below its mean; for that arrangement itself it is the share.

        The mean is that of the query's cells over the sample, in all orientations of a scale together. The spread falls
        as the cube root of the number of cells: neighbouring cells are alike, so it falls more slowly than the square
        root of independent bits.

        Args:
            cells: uint64 [M, W], a sample of the cells of stored images.
        """
        if not len(cells) or not self.arrangements:
            return self
        # Integers up to the last division, so that every machine has the same distances.
        flips = [int(np.bitwise_count(code ^ cells).sum(dtype=np.int64)) for code in self.codes]
        first = self.arrangements[0]
        means = {
            scale: _mean([each for each in self.arrangements if each.scale == scale], flips, len(cells))
            for scale in {arrangement.scale for arrangement in self.arrangements}
        }
        scaled = []
        for arrangement in self.arrangements:
            # Rounded, because powers differ in the last digit between machines.
            factor = round((arrangement.bits / first.bits) ** (1 / 3), 6)
            shift = means[arrangement.scale] - means[first.scale] / factor
            if arrangement.scale == first.scale:
                factor, shift = 1.0, 0.0
            scaled.append(replace(arrangement, shift=shift, factor=factor))
        return replace(self, arrangements=tuple(scaled))


def _mean(arrangements: Sequence[Arrangement], flips: Sequence[int], number: int) -> float:
    """Return the mean share of differing bits of arrangements, of the sums of their cells over `number` cells."""
    chosen = np.concatenate([arrangement.cells[arrangement.cells >= 0] for arrangement in arrangements])
    total = sum(flips[int(cell)] for cell in chosen)
    return total / (sum(arrangement.bits for arrangement in arrangements) * number)


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


