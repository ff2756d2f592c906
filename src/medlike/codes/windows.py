"""Regional search: the window of a stored image whose cell codes are nearest to those of a query region.

D(q, x) = min over orientations o, scales s and offsets t of d_s(sum_c Hamming(q_os[c], x[c + t]) / (cells * L)).

d_s makes windows of different size comparable (`Template.standardised`); without it the share of differing bits
counts as it is.

q_os rearranges and resamples the query's cell codes: those of one encoding, or for each orientation those of the
query's picture turned like that. Each stored cell is compared once with each query cell, and an arrangement is a sum
of shifted planes of these distances. Cells in padding are invalid: those of the query are not counted,
and a window with a counted cell over an invalid one of the image is not a window.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlike.codes.hamming import Engine
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID, Arrangement, Template
from medlike.codes.threads import share
from medlike.errors import QueryError
from medlike.types import Array

STEP = 1024  # images a thread takes at a time
SMALL = 2000  # images up to which numpy answers in a moment
CHUNK = 64  # images that numpy compares at a time


@dataclass(frozen=True)
class Matches:
    """The best window of some images: rows int64 [M], ascending; distance float64 [M].

    distance: the share of differing bits, or by a standardised template the distance that this makes.
    arrangement: int64 [M], of the template. top, left: int64 [M], the window's first cell. Of equally near
    windows the first counts, by arrangement, then row, then column.
    """

    rows: NDArray[np.int64]
    distance: NDArray[np.float64]
    arrangement: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


_NO_ROWS = np.empty(0, np.int64)
_NO_MATCHES = Matches(_NO_ROWS, np.empty(0, np.float64), _NO_ROWS, _NO_ROWS, _NO_ROWS)


def match(
    cells: NDArray[np.uint64],
    masks: NDArray[np.uint8] | None,
    template: Template,
    rows: NDArray[np.int64] | None = None,
    limit: float | NDArray[np.float64] = np.inf,
    engine: Engine = "auto",
) -> Matches:
    """Return the best window of each image, if it is within a limit.

    Images without a window that fits are left out.

    Args:
        cells: uint64 [N, 14, 14, L / 64].
        masks: uint8 [N, 25], np.packbits of the valid cells; None if all are valid.
        template: The region and its arrangements.
        rows: int64 [M], ascending: the images to compare; None for all.
        limit: Largest distance returned, one number or float64 [M].
        engine: numpy, compiled, or by the number of images.
    """
    _check(cells, masks, template)
    chosen = np.arange(len(cells)) if rows is None else np.asarray(rows, np.int64)
    limits = np.broadcast_to(np.asarray(limit, np.float64), chosen.shape)
    if not len(chosen) or not template.arrangements:
        return _NO_MATCHES
    if engine == "compiled" or (engine == "auto" and len(chosen) > SMALL):
        return _compiled(cells, masks, template, chosen, np.ascontiguousarray(limits))
    parts = [_NO_MATCHES]
    for start in range(0, len(chosen), CHUNK):
        part = slice(start, start + CHUNK)
        parts.append(_numpy(cells, masks, template, chosen[part], limits[part]))
    return Matches(*(np.concatenate([getattr(part, name) for part in parts]) for name in Matches.__dataclass_fields__))


def share_of(
    query: NDArray[np.uint64], stored: NDArray[np.uint64], arrangement: Arrangement, top: int, left: int
) -> float:
    """Return the share of differing bits of one window; the arguments are those of `agreement`."""
    height, width = arrangement.shape
    flips = np.bitwise_count(stored[top : top + height, left : left + width] ^ query[arrangement.cells]).sum(axis=2)
    return int(flips[arrangement.cells >= 0].sum()) / arrangement.bits


def agreement(
    query: NDArray[np.uint64], stored: NDArray[np.uint64], arrangement: Arrangement, top: int, left: int
) -> NDArray[np.float32]:
    """Return how well each cell of a window agrees with the query cell above it.

    Args:
        query: uint64 [C, W], a template's codes.
        stored: uint64 [14, 14, W].
        arrangement: How the query's cells lie in the window.
        top: First row of the window.
        left: First column of the window.

    Returns:
        float32 [14, 14], share of equal bits, higher is more alike; NaN outside of the window and where the query's
        cell is not counted.
    """
    height, width = arrangement.shape
    shown = np.full((GRID, GRID), np.nan, np.float32)
    window = stored[top : top + height, left : left + width]
    flips = np.bitwise_count(window ^ query[np.maximum(arrangement.cells, 0)]).sum(axis=2)
    shares = 1 - flips.astype(np.float32) / (64 * query.shape[1])
    shown[top : top + height, left : left + width] = np.where(arrangement.cells >= 0, shares, np.nan)
    return shown


def _numpy(
    cells: NDArray[np.uint64],
    masks: NDArray[np.uint8] | None,
    template: Template,
    rows: NDArray[np.int64],
    limits: NDArray[np.float64],
) -> Matches:
    stored = np.asarray(cells[rows])
    number = len(rows)
    planes = np.bitwise_count(stored[:, None] ^ template.codes[None, :, None, None]).sum(axis=4, dtype=np.uint16)
    valid = np.ones((number, GRID, GRID), bool) if masks is None else unpack_grids(np.asarray(masks[rows]), GRID)
    best = np.full(number, np.inf)
    which, top, left = (np.zeros(number, np.int64) for _ in range(3))
    for place, arrangement in enumerate(template.arrangements):
        height, width = arrangement.shape
        down, across = GRID - height + 1, GRID - width + 1
        sums = np.zeros((number, down, across), np.uint32)
        fits = np.ones((number, down, across), bool)
        for (i, j), cell in np.ndenumerate(arrangement.cells):
            if cell >= 0:
                sums += planes[:, cell, i : i + down, j : j + across]
                fits &= valid[:, i : i + down, j : j + across]
        distances = (sums / arrangement.bits - arrangement.shift) * arrangement.factor
        distances = np.where(fits, distances, np.inf).reshape(number, -1)
        at = distances.argmin(axis=1)
        nearest = distances[np.arange(number), at]
        better = nearest < best
        best[better], which[better] = nearest[better], place
        top[better], left[better] = at[better] // across, at[better] % across
    near = np.isfinite(best) & (best <= limits)
    return Matches(rows[near], best[near], which[near], top[near], left[near])


def _compiled(
    cells: NDArray[np.uint64],
    masks: NDArray[np.uint8] | None,
    template: Template,
    rows: NDArray[np.int64],
    limits: NDArray[np.float64],
) -> Matches:
    from medlike.codes import window_kernels

    flat = np.ascontiguousarray(cells).reshape(len(cells), -1)
    plan = window_kernels.Plan.of(template)
    packed = np.empty((0, 25), np.uint8) if masks is None else np.ascontiguousarray(masks)
    outputs = (
        np.empty(len(rows), np.float64), np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    )  # fmt: skip

    def worker(counter: "itertools.count[int]") -> None:
        scratch = plan.scratch()
        while (start := next(counter) * STEP) < len(rows):
            part = slice(start, min(start + STEP, len(rows)))
            window_kernels.scan(
                flat, packed, rows[part], limits[part], *plan.arguments(), *scratch,
                *(output[part] for output in outputs),
            )  # fmt: skip

    share(-(-len(rows) // STEP), worker)
    best, which, at = outputs
    near = np.flatnonzero(which >= 0)
    return Matches(rows[near], best[near], which[near], at[near] // GRID, at[near] % GRID)


def _check(cells: Array, masks: Array | None, template: Template) -> None:
    words = template.codes.shape[1]
    if cells.dtype != np.uint64 or cells.shape[1:] != (GRID, GRID, words):
        raise QueryError(
            f"cells are {cells.dtype} {list(cells.shape)}: they must be uint64 [N, 14, 14, {words}] like the query's"
        )
    if masks is not None and (masks.dtype != np.uint8 or masks.shape != (len(cells), 25)):
        raise QueryError(f"masks are {masks.dtype} {list(masks.shape)}: they must be uint8 [{len(cells)}, 25]")
