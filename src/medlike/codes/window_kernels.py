"""Compiled regional scans (numba), for eight images at a time.

Eight images lie one after the other; a plane holds the distance of each of their cells to one query cell.
Shifted by a window's cells and added, the planes give the sums of all windows of all eight images in one
vectorised pass. Sums of arrangements with as many bits are compared lane by lane; only an image whose
smallest sum is within its limit is looked at window by window.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medlike.codes import cell_vectors
from medlike.codes.cell_vectors import EACH, HELD, add_six, look_up, look_up_onto, take_apart
from medlike.codes.kernels import compiled, popcount, prefetch
from medlike.codes.templates import CELLS, GRID, Template
from medlike.types import Array

TOGETHER = 8  # images
LANES = TOGETHER * CELLS
KNOWN = 32  # masks kept ready: letterboxing makes few different ones
NEVER = 65535  # the sum of what is no window; the largest real one is 196 x 128


@dataclass(frozen=True)
class Plan:
    """A template as flat arrays. starts: int64 [A + 1] into cell and shift; shapes: [A, 2]; bits: int64 [A].

    cell: the query cell, shift: where it lies from the window's first cell, in cells of the grid.
    """

    codes: NDArray[np.uint64]
    starts: NDArray[np.int64]
    cell: NDArray[np.int64]
    shift: NDArray[np.int64]
    shapes: NDArray[np.int64]
    bits: NDArray[np.int64]

    @staticmethod
    def of(template: Template) -> "Plan":
        """Make a plan from a template."""
        starts, cell, shift = [0], [], []
        for arrangement in template.arrangements:
            for (i, j), number in np.ndenumerate(arrangement.cells):
                if number >= 0:
                    cell.append(int(number))
                    shift.append(i * GRID + j)
            starts.append(len(cell))
        return Plan(
            template.codes,
            np.asarray(starts),
            np.asarray(cell),
            np.asarray(shift),
            np.asarray([arrangement.shape for arrangement in template.arrangements]),
            np.asarray([arrangement.bits for arrangement in template.arrangements]),
        )

    def arguments(self) -> tuple[Array, ...]:
        """Return the arrays in the order in which `scan` takes them."""
        return self.codes, self.starts, self.cell, self.shift, self.shapes, self.bits

    def scratch(self) -> tuple[Array, ...]:
        """Return one thread's memory.

        Images, their nibbles, tables of the query's, planes, sums, least sums, forbidden windows, masks known and
        theirs.
        """
        number, words = len(self.bits), len(self.codes[0])
        return (
            np.zeros((words, LANES), np.uint64),
            np.zeros((EACH * words, LANES), np.uint8),
            cell_vectors.tables(self.codes),
            np.zeros((len(self.codes), LANES + CELLS), np.uint8),
            np.zeros(LANES, np.uint16),
            np.zeros(LANES, np.uint16),
            np.zeros((number, LANES), np.uint16),
            np.full(TOGETHER, -1, np.int64),
            np.zeros((KNOWN, 25), np.uint8),
            np.zeros((KNOWN, number, CELLS), np.uint16),
            np.zeros(2, np.int64),
        )


@compiled
def scan(  # type: ignore[no-untyped-def]
    stored, masks, rows, limits, codes, starts, cell, shift, shapes, bits,
    images, nibbles, tables, planes, sums, least, forbidden, laid, known, windows, ring, best, which, place,
):  # fmt: skip
    """Find the best window of stored[rows]: best float64 [M], which (-1: none within limits) and place int64 [M]."""
    words = codes.shape[1]
    for first in range(0, rows.shape[0], TOGETHER):
        number = min(TOGETHER, rows.shape[0] - first)
        for b in range(number):
            row = rows[first + b]
            _gather(stored[row], words, images, b * CELLS)
            # Most images have the mask of the one before; passing so many arrays takes longer than looking.
            if laid[b] < 0 or (masks.shape[0] and not _same(known, laid[b], masks, row)):
                _lay(b, row, masks, cell, shift, starts, shapes, forbidden, laid, known, windows, ring)
        _prepare(images, nibbles)
        following = min(TOGETHER, rows.shape[0] - first - TOGETHER)
        for c in range(max(codes.shape[0], TOGETHER)):
            if c < following:
                # The next images come from memory while these are compared.
                _fetch(stored, rows[first + TOGETHER + c])
            if c < codes.shape[0]:
                _plane(images, nibbles, codes[c], tables[c], planes[c])
        for b in range(number):
            best[first + b] = np.inf
            which[first + b] = -1
        a = 0
        while a < bits.shape[0]:
            group = a
            while a < bits.shape[0] and bits[a] == bits[group]:
                _sum(planes, words, cell, shift, starts[a], starts[a + 1], sums)
                _lower(least, sums, forbidden[a], a == group)
                a += 1
            for b in range(number):
                smallest = _smallest(least[b * CELLS : (b + 1) * CELLS])
                if smallest == NEVER:
                    continue
                share = np.float64(smallest) / np.float64(bits[group])
                # Of equally near windows the first arrangement counts: a later group must be nearer.
                if share <= limits[first + b] and share < best[first + b]:
                    best[first + b] = share
                    window = _find(planes, words, b, smallest, group, a, cell, shift, starts, forbidden, sums)
                    which[first + b] = window // CELLS
                    place[first + b] = window % CELLS


@compiled
def _fetch(stored, row):  # type: ignore[no-untyped-def]
    for p in range(0, stored.shape[1], 8):
        prefetch(stored, row * stored.shape[1] + p)


@compiled
def _gather(image, words, images, start):  # type: ignore[no-untyped-def]
    if words == 1:
        # A stride that the compiler knows.
        near = images[0, start : start + CELLS]
        for p in range(CELLS):
            near[p] = image[p]
    else:
        for w in range(words):
            for p in range(CELLS):
                images[w, start + p] = image[p * words + w]


@compiled
def _nothing(images, nibbles):  # type: ignore[no-untyped-def]
    """Prepare nothing: cells are counted as they are."""


@compiled
def _in_nibbles(images, nibbles):  # type: ignore[no-untyped-def]
    """Take the cells of all images apart into nibbles."""
    for w in range(images.shape[0]):
        for start in range(0, LANES, cell_vectors.CELLS):
            take_apart(images, w * LANES + start, nibbles, EACH * w * LANES + start, LANES)


@compiled
def _looked_up(images, nibbles, code, table, plane):  # type: ignore[no-untyped-def]
    """Look up the distances of the cells of all images to one query cell."""
    look_up(nibbles, 0, table, 0, plane)
    for first in range(HELD, nibbles.shape[0], HELD):
        look_up_onto(nibbles, first, table, first, plane)


@compiled
def _counted(images, nibbles, code, table, plane):  # type: ignore[no-untyped-def]
    """Count the distances of the cells of all images to one query cell."""
    q0 = code[0]
    near = images[0]
    if code.shape[0] == 1:
        for p in range(LANES):
            plane[p] = np.uint8(popcount(near[p] ^ q0))
    else:
        q1 = code[1]
        far = images[1]
        for p in range(LANES):
            plane[p] = np.uint8(popcount(near[p] ^ q0) + popcount(far[p] ^ q1))


# What is fastest is decided when kernels are compiled, for the processor that they are compiled for.
_prepare, _plane = (_in_nibbles, _looked_up) if cell_vectors.USED else (_nothing, _counted)


@compiled
def _sum(planes, words, cell, shift, start, stop, sums):  # type: ignore[no-untyped-def]
    """Sum one arrangement's windows, by first cell; sums of windows that leave an image mean nothing."""
    for t in range(LANES):
        sums[t] = 0
    n = start
    width = planes.shape[1]
    # Three distances of cells of 64 bits are at most 192.
    while words == 1 and n + 6 <= stop:
        add_six(
            planes,
            cell[n] * width + shift[n],
            cell[n + 1] * width + shift[n + 1],
            cell[n + 2] * width + shift[n + 2],
            cell[n + 3] * width + shift[n + 3],
            cell[n + 4] * width + shift[n + 4],
            cell[n + 5] * width + shift[n + 5],
            sums,
        )
        n += 6
    while n + 4 <= stop:
        p0 = planes[cell[n], shift[n] : shift[n] + LANES]
        p1 = planes[cell[n + 1], shift[n + 1] : shift[n + 1] + LANES]
        p2 = planes[cell[n + 2], shift[n + 2] : shift[n + 2] + LANES]
        p3 = planes[cell[n + 3], shift[n + 3] : shift[n + 3] + LANES]
        for t in range(LANES):
            pair = np.uint16(p0[t]) + np.uint16(p1[t])
            other = np.uint16(p2[t]) + np.uint16(p3[t])
            sums[t] += np.uint16(pair + other)
        n += 4
    while n < stop:
        p0 = planes[cell[n], shift[n] : shift[n] + LANES]
        for t in range(LANES):
            sums[t] += np.uint16(p0[t])
        n += 1


@compiled
def _lower(least, sums, forbidden, first):  # type: ignore[no-untyped-def]
    if first:
        for t in range(LANES):
            least[t] = sums[t] | forbidden[t]
    else:
        for t in range(LANES):
            least[t] = min(least[t], sums[t] | forbidden[t])


@compiled
def _smallest(sums):  # type: ignore[no-untyped-def]
    best = np.uint16(NEVER)
    for t in range(CELLS):
        best = min(best, sums[t])
    return best


@compiled
def _find(  # type: ignore[no-untyped-def]
    planes, words, b, target, a, last, cell, shift, starts, forbidden, sums
):
    """Return the first arrangement of a..last, and in it the first window of image b, with the sum `target`."""
    for arrangement in range(a, last):
        _sum(planes, words, cell, shift, starts[arrangement], starts[arrangement + 1], sums)
        for t in range(CELLS):
            lane = b * CELLS + t
            if sums[lane] | forbidden[arrangement, lane] == target:
                return arrangement * CELLS + t
    return -1


@compiled
def _lay(  # type: ignore[no-untyped-def]
    b, row, masks, cell, shift, starts, shapes, forbidden, laid, known, windows, ring
):
    """Make `forbidden` right for image b: which windows leave the grid or touch a cell in padding."""
    if masks.shape[0] == 0:
        if laid[b] >= 0:
            return
        _learn(known[0], True, cell, shift, starts, shapes, windows[0], known[0])
        ring[0] = 1
        _copy(b, windows[0], forbidden)
        laid[b] = 0
        return
    slot = -1
    for m in range(min(ring[0], KNOWN)):
        if _same(known, m, masks, row):
            slot = m
            break
    if slot < 0:
        slot = ring[0] % KNOWN
        ring[0] += 1
        _learn(masks[row], False, cell, shift, starts, shapes, windows[slot], known[slot])
        for other in range(TOGETHER):
            if laid[other] == slot:
                # Its windows stay as they were copied; only the slot now means another mask.
                laid[other] = -1
    _copy(b, windows[slot], forbidden)
    laid[b] = slot


@compiled
def _same(known, m, masks, row):  # type: ignore[no-untyped-def]
    """Return whether two masks are equal. No early exit: it would prevent vectorisation."""
    differs = np.uint8(0)
    for i in range(25):
        differs |= known[m, i] ^ masks[row, i]
    return differs == 0


@compiled
def _learn(mask, everything, cell, shift, starts, shapes, window, known):  # type: ignore[no-untyped-def]
    """Compute which windows a mask forbids, uint16 [A, 196], NEVER or 0, and store the mask in `known`."""
    if not everything:
        for i in range(25):
            known[i] = mask[i]
    for a in range(shapes.shape[0]):
        for t in range(CELLS):
            bad = t // GRID + shapes[a, 0] > GRID or t % GRID + shapes[a, 1] > GRID
            if not bad and not everything:
                for n in range(starts[a], starts[a + 1]):
                    p = t + shift[n]
                    if not (mask[p >> 3] >> (7 - (p & 7))) & 1:
                        bad = True
                        break
            window[a, t] = NEVER if bad else 0


@compiled
def _copy(b, window, forbidden):  # type: ignore[no-untyped-def]
    for a in range(window.shape[0]):
        for t in range(CELLS):
            forbidden[a, b * CELLS + t] = window[a, t]
