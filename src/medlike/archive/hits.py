"""Candidates made into hits: metadata, sources, boxes and agreement maps of the few images that are shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medlike.archive.asked import Asked
from medlike.archive.index import Part, View
from medlike.archive.ranking import Candidates
from medlike.archive.regions import window
from medlike.archive.result import Box, Hit
from medlike.archive.store import ImageRow
from medlike.codes.windows import GRID, Template, agreement, unpacked

if TYPE_CHECKING:
    from medlike.archive.archive import Archive

# For each ranked image: the others of its group in order, and how many images the group has.
Groups = list[tuple[Candidates, int]]


def hits(
    archive: "Archive", view: View, asked: Asked, template: Template | None, ranked: Candidates, groups: Groups | None
) -> list[Hit]:
    """Hits in the order of the candidates. An image that was erased a moment ago is left out."""
    everything = Candidates.joined([ranked, *(others for others, _ in groups or [])])
    rows = [
        int(view.parts[part].segment.array("rows")[at])
        for part, at in zip(everything.part, everything.position, strict=True)
    ]
    images = archive.store.images(rows)
    sources = archive.sources(sorted({images[row].id for row in rows if row in images}))
    texts = archive.store.texts_of(rows)
    made = [
        replace(_hit(view, asked, template, everything, at, images[row], sources), texts=texts.get(row, {}))
        if row in images
        else None
        for at, row in enumerate(rows)
    ]
    found: list[Hit] = []
    start = len(ranked)
    for number, hit in enumerate(made[:start]):
        if groups is not None:
            others, size = groups[number]
            behind = [other for other in made[start : start + len(others)] if other is not None]
            start += len(others)
            if hit is not None:
                named = tuple(replace(other, rank=place) for place, other in enumerate(behind, 2))
                hit = replace(hit, others=named, group_size=size)
        if hit is not None:
            found.append(replace(hit, rank=len(found) + 1))
    return found


def _hit(
    view: View,
    asked: Asked,
    template: Template | None,
    found: Candidates,
    at: int,
    image: ImageRow,
    sources: Mapping[str, dict[str, Any]],
) -> Hit:
    part, position = view.parts[found.part[at]], int(found.position[at])
    hit = Hit(
        rank=0,
        id=image.id,
        distance=_known(found.distance[at].item()),
        similarity=_known(float(found.similarity[at])),
        metadata=image.metadata,
        source=sources.get(image.id),
        size=(image.width, image.height),
    )
    if template is None or found.windows[at] < 0:
        return replace(hit, agreement=_whole(asked, part, position))
    number, top, left = window(template, int(found.windows[at]))
    arrangement = template.arrangements[number]
    stored = np.asarray(part.segment.array("cells")[position])
    return replace(
        hit,
        box=_box(image, top, left, arrangement.shape),
        orientation=arrangement.orientation,
        scale=arrangement.scale,
        agreement=agreement(template.codes, stored, arrangement, top, left),
    )


def _known(value: float) -> float | None:
    """None for what was not compared; a number of bits stays a whole number."""
    return None if value != value else value


def _box(image: ImageRow, top: int, left: int, shape: Sequence[int]) -> Box:
    """A window of cells in the image's own pixels, cut to the image."""
    from medlike.imaging import Letterbox

    place = Letterbox.of(image.height, image.width)
    side = place.size // GRID
    height, width = shape
    x0, y0, x1, y1 = place.from_box((left * side, top * side, (left + width) * side, (top + height) * side))
    return (max(x0, 0.0), max(y0, 0.0), min(x1, float(image.width)), min(y1, float(image.height)))


def _whole(asked: Asked, part: Part, position: int) -> NDArray[np.float32] | None:
    """Agreement of two whole images, cell by cell in place."""
    if asked.cells is None or asked.mask is None or "cells" not in part.segment.layout.arrays():
        return None
    stored = np.asarray(part.segment.array("cells")[position])
    flips = np.bitwise_count(asked.cells ^ stored).sum(axis=2)
    valid = asked.mask & unpacked(np.asarray(part.segment.array("cell_mask")[position])[None])[0]
    shares = 1 - flips.astype(np.float32) / (64 * stored.shape[2])
    return np.where(valid, shares, np.float32(np.nan))
