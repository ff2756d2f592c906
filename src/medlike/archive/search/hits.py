"""Candidates made into hits: metadata, sources, boxes and agreement maps of the few images that are shown."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.candidates import Candidates
from medlike.archive.index.index import Part, View
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.familiarity import UNITS
from medlike.archive.search.regions import window
from medlike.archive.search.result import Box, Hit
from medlike.archive.storage.rows import Shown
from medlike.codes.packing import unpack_grids
from medlike.codes.templates import GRID, Template
from medlike.codes.windows import agreement
from medlike.types import Array, JsonObject

if TYPE_CHECKING:
    from medlike.archive.index.indexes import CodedImages
    from medlike.archive.index.neighbours import LabelPairs
    from medlike.archive.session import Session

BAND = 200  # pairs, those nearest in similarity, that a share is of
PATIENTS = 50  # of whom the images of such pairs must be, or nothing is claimed

# For each ranked image: the others of its group in order, and how many images the group has.
Groups = list[tuple[Candidates, int]]


def hits(
    session: "Session",
    view: View,
    encoded: EncodedQuery,
    template: Template | None,
    ranked: Candidates,
    groups: Groups | None,
) -> list[Hit]:
    """Hits in the order of the candidates. An image that was erased a moment ago is left out."""
    everything = Candidates.joined([ranked, *(others for others, _ in groups or [])])
    rows = _rows(view, everything)
    shown = session.store.shown(rows)
    sources = session.sources([image.id for image in shown.values()])
    texts = session.store.texts_of(rows)
    itself = encoded.itself
    distances, similarities = _known(everything.distance), _known(everything.similarity)
    placed = template is not None or encoded.cells is not None

    def made(at: int, rank: int, others: tuple[Hit, ...] = (), size: int | None = None) -> Hit:
        image = shown[rows[at]]
        return Hit(
            rank=rank,
            id=image.id,
            distance=distances[at],
            similarity=similarities[at],
            metadata=image.metadata,
            source=sources.get(image.id),
            others=others,
            group_size=size,
            size=(image.width, image.height),
            itself=image.id == itself,
            texts=texts.get(rows[at], {}),
            **(_place(view, encoded, template, everything, at, image) if placed else {}),
        )

    shown_hits: list[Hit] = []
    start = len(ranked)
    for at in range(len(ranked)):
        others: tuple[Hit, ...] = ()
        size = None
        if groups is not None:
            stop, size = start + len(groups[at][0]), groups[at][1]
            behind = [other for other in range(start, stop) if rows[other] in shown]
            others = tuple(made(other, rank) for rank, other in enumerate(behind, 2))
            start = stop
        if rows[at] in shown:
            shown_hits.append(made(at, len(shown_hits) + 1, others, size))
    return shown_hits


def with_shares(session: "Session", images: "CodedImages", view: View, shown: Sequence[Hit]) -> list[Hit]:
    """Return hits with what their similarity means in the archive: `label_share`, else `neighbour_share`."""
    pairs, (usual, _) = session.loaded.pairs(images, view), session.loaded.usual(images, view)

    def one(hit: Hit) -> Hit:
        if hit.similarity is None:
            return hit
        share = label_share(pairs, hit.similarity)
        if share is not None or len(usual) < UNITS:
            return replace(hit, label_share=share)
        nearer = np.searchsorted(usual, np.float32(hit.similarity), side="right")
        return replace(hit, neighbour_share=float(nearer) / len(usual))

    return [replace(one(hit), others=tuple(map(one, hit.others))) for hit in shown]


def label_share(pairs: "LabelPairs", similarity: float) -> float | None:
    """Return the share with the same label among the BAND pairs nearest to a similarity; None if they are too few.

    Args:
        pairs: Of the archive.
        similarity: From -1 to 1. Above the most similar pairs, the share is that among these.
    """
    number = len(pairs.similarities)
    middle = int(np.searchsorted(pairs.similarities, np.float32(similarity)))
    start = max(0, min(middle - BAND // 2, number - BAND))
    band = slice(start, start + BAND)
    if number < BAND or len(np.unique(pairs.images[band])) < PATIENTS:
        return None
    return float(pairs.equal[band].mean())


def _rows(view: View, ranked: Candidates) -> list[int]:
    """The store's rows of candidates."""
    rows = np.empty(len(ranked), np.int64)
    for number, part in enumerate(view.parts):
        inside = ranked.part == number
        positions = ranked.position[inside]
        rows[inside] = part.segment.array("rows", positions)[positions]
    return rows.tolist()


def _place(
    view: View, encoded: EncodedQuery, template: Template | None, ranked: Candidates, at: int, image: Shown
) -> JsonObject:
    """Where in an image the match is, as a hit says it."""
    part, position = view.parts[ranked.part[at]], int(ranked.position[at])
    if template is None or ranked.windows[at] < 0:
        return {"agreement": _whole(encoded, part, position)}
    number, top, left = window(template, int(ranked.windows[at]))
    arrangement = template.arrangements[number]
    stored = np.asarray(part.segment.array("cells", position)[position])
    return {
        "box": _box(image, top, left, arrangement.shape),
        "orientation": arrangement.orientation,
        "scale": arrangement.scale,
        "agreement": agreement(template.codes, stored, arrangement, top, left),
    }


def _known(values: Array) -> list[float | None]:
    """None for what was not compared; a number of bits stays a whole number."""
    return [None if value != value else value for value in values.tolist()]


def _box(image: Shown, top: int, left: int, shape: Sequence[int]) -> Box:
    """A window of cells in the image's own pixels, cut to the image."""
    from medlike.imaging import Letterbox

    place = Letterbox.of(image.height, image.width)
    side = place.size // GRID
    height, width = shape
    x0, y0, x1, y1 = place.from_box((left * side, top * side, (left + width) * side, (top + height) * side))
    return (max(x0, 0.0), max(y0, 0.0), min(x1, float(image.width)), min(y1, float(image.height)))


def _whole(encoded: EncodedQuery, part: Part, position: int) -> NDArray[np.float32] | None:
    """Agreement of two whole images, cell by cell in place."""
    if encoded.cells is None or encoded.mask is None or "cells" not in part.segment.layout.arrays():
        return None
    stored = np.asarray(part.segment.array("cells", position)[position])
    flips = np.bitwise_count(encoded.cells ^ stored).sum(axis=2)
    valid = encoded.mask & unpack_grids(np.asarray(part.segment.array("cell_mask", position)[position])[None], GRID)[0]
    shares = 1 - flips.astype(np.float32) / (64 * stored.shape[2])
    return np.where(valid, shares, np.float32(np.nan))
