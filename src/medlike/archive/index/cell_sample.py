"""A sample of the cells of an archive's images: what the cells of a query region are near to by chance.

Ids are keyed hashes, so the images with the smallest ids are drawn at random, and equal for every reader. The sample
follows from the images that live as of a generation alone.
"""

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.index import View
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID

IMAGES = 64


def cell_sample(view: View) -> NDArray[np.uint64]:
    """Return the cells outside of padding of the IMAGES live images with the smallest ids: uint64 [M, L / 64]."""
    smallest = []
    for number, part in enumerate(view.parts):
        live = np.ones(part.rows, bool)
        live[part.dead] = False
        positions = np.flatnonzero(live)
        words = np.ascontiguousarray(part.segment.array("ids")[: part.rows]).view(">u8").reshape(-1, 2)[:, 0]
        words = words.astype(np.uint64)[positions]
        if len(words) > IMAGES:
            near = np.flatnonzero(words <= np.partition(words, IMAGES - 1)[IMAGES - 1])
            positions = positions[near]
        ids = part.segment.array("ids", positions)
        smallest += [(ids[position].tobytes(), number, position) for position in positions.tolist()]
    cells = [np.empty((0, 0), np.uint64)]
    for _, number, position in sorted(smallest)[:IMAGES]:
        segment = view.parts[number].segment
        mask = unpack_grids(np.asarray(segment.array("cell_mask", position)[position])[None], GRID)[0]
        cells.append(np.asarray(segment.array("cells", position)[position])[mask])
    return np.concatenate(cells[1:] or cells)
