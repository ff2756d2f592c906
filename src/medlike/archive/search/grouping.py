"""One hit for several images: the best of each study, series or patient, or of pictures that are nearly the same."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates, Field
from medlike.archive.index.columns import Value
from medlike.archive.index.index import Part
from medlike.archive.search.hits import Groups
from medlike.archive.search.settings import SearchSettings
from medlike.archive.search.text_search import Ranking
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID
from medlike.errors import QueryError
from medlike.types import I64, U64, Mask

# Per cent of equal local bits from which two pictures count as nearly the same: of 0.76 to 0.95 the lowest that none of
# 50 images shared with an image that is no near-duplicate by its perceptual hash, on half of ten sources (2,220
# images). On the other half 1 of 48 images had such a one. There 100 % of brighter copies reach it, 73 % of copies at
# JPEG quality 50 and 58 % at half size.
SAME_PICTURE = 88
BLOCK = 1000  # images of the ranking within which duplicates are counted


def carriers(part: Part, name: str, value: Value) -> I64:
    """Return the positions of a part's rows that have a value in a column."""
    column = part.segment.column(name)
    code = column.code(value)
    if not code:
        return np.empty(0, np.int64)
    return np.flatnonzero(column.codes[: part.rows] == column.codes.dtype.type(code))


def grouped(ranking: Ranking, fields: Sequence[Field], settings: SearchSettings) -> tuple[Candidates, Groups]:
    """Return the best of each study, series or patient, and for each its other images in order, and their number."""
    name = settings.group_by or str(settings.collapse)
    depth = 4 * settings.k
    while True:
        ranked = ranking.first(depth)
        keys = [
            fields[part].part.segment.column(name).value(int(at))
            for part, at in zip(ranked.part, ranked.position, strict=True)
        ]
        best: dict[Value, int] = {}
        for at, key in enumerate(keys):
            # An image without a study is one of its own.
            best.setdefault(at if key is None else key, at)
        if len(best) >= settings.k or len(ranked) < depth:
            break
        depth *= 4
    chosen = sorted(best.values())[: settings.k]
    groups: Groups = []
    for at in chosen:
        key = keys[at]
        if key is None:
            groups.append((ranked.take(slice(0, 0)), 1))
            continue
        members = ranking.members([carriers(field.part, name, key) for field in fields])
        groups.append((members.take(slice(1, 1 + settings.others)), len(members)))
    return ranked.take(np.asarray(chosen, np.int64)), groups


def folded(ranking: Ranking, fields: Sequence[Field], settings: SearchSettings) -> tuple[Candidates, Groups]:
    """Return the best of pictures that are nearly the same, and for each the others in order, and their number.

    Each image belongs to the first image before it that has nearly the same picture and belongs to no other. Those that
    lie in a later block of the ranking are left out, but not counted, so that the number does not depend on `k`.

    Raises:
        QueryError: The bundle has no local codes.
    """
    if any("cells" not in field.part.segment.layout.arrays() for field in fields):
        raise QueryError(
            "collapse='duplicates' compares local codes, and the archive's bundle has none: leave it out, or switch to "
            "another bundle with `medlike reindex --bundle`"
        )
    leaders: list[int] = []
    followers: list[I64] = []
    pictures: list[tuple[U64, Mask]] = []
    start, ranked = 0, ranking.first(BLOCK)
    while True:
        block = np.arange(start, min(start + BLOCK, len(ranked)))
        cells, masks = _pictures(ranked.take(block), fields)
        left: I64 = np.arange(len(block))
        for picture in pictures:
            left = left[~same_picture(*picture, cells[left], masks[left])]
        while len(left) and len(leaders) < settings.k:
            picture = cells[left[0]], masks[left[0]]
            same = same_picture(*picture, cells[left], masks[left])
            same[0] = True  # a picture without a cell that counts is like no other
            leaders.append(int(block[left[0]]))
            followers.append(block[left[same][1:]])
            pictures.append(picture)
            left = left[~same]
        start += BLOCK
        if len(leaders) >= settings.k or len(ranked) < start:
            break
        ranked = ranking.first(start + BLOCK)
    groups = [(ranked.take(each[: settings.others]), 1 + len(each)) for each in followers]
    return ranked.take(np.asarray(leaders, np.int64)), groups


def same_picture(cells: U64, mask: Mask, stored: U64, masks: Mask) -> NDArray[np.bool_]:
    """Return which pictures are nearly the same as one: bool [N]. Only whole numbers are compared.

    Args:
        cells: uint64 [14, 14, W], of the one.
        mask: bool [14, 14], True in its cells that count.
        stored: uint64 [N, 14, 14, W], of the others.
        masks: bool [N, 14, 14].
    """
    both = mask & masks
    common, either = both.sum(axis=(1, 2)), (mask | masks).sum(axis=(1, 2))
    flips = (np.bitwise_count(cells ^ stored).sum(axis=3, dtype=np.int64) * both).sum(axis=(1, 2))
    bits = 64 * cells.shape[2] * common
    # Pictures of another shape cover other cells.
    placed = (common > 0) & (100 * common >= SAME_PICTURE * either)
    alike: NDArray[np.bool_] = placed & (100 * (bits - flips) >= SAME_PICTURE * bits)
    return alike


def _pictures(rows: Candidates, fields: Sequence[Field]) -> tuple[U64, Mask]:
    """Return the local codes of some rows: uint64 [M, 14, 14, W], and which of their cells count: bool [M, 14, 14]."""
    words = fields[0].part.segment.layout.arrays()["cells"][1][2] if fields else 1
    cells, masks = np.empty((len(rows), GRID, GRID, words), np.uint64), np.empty((len(rows), GRID, GRID), bool)
    for number, field in enumerate(fields):
        inside = rows.part == number
        positions = rows.position[inside]
        cells[inside] = field.part.segment.array("cells", positions)[positions]
        masks[inside] = unpack_grids(field.part.segment.array("cell_mask", positions)[positions], GRID)
    return cells, masks
