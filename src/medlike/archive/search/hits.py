"""Candidates made into hits: metadata, sources, boxes and agreement maps of the few images that are shown."""

from collections.abc import Sequence
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
from medlike.types import Array, JsonObject, Mask

if TYPE_CHECKING:
    from medlike.archive.index.indexes import CodedImages
    from medlike.archive.index.neighbours import LabelPairs
    from medlike.archive.session import Session

# Share of equal local bits of an image and its mirrored copy, chosen on half of the sources. On the other half 93 % of
# copies reach it and agree better mirrored (76 % if they are altered too), but none of 780 other images of the source.
MIRRORED_SHARE = 0.76

# For each ranked image: the others of its group in order, and how many images the group has.
Groups = list[tuple[Candidates, int]]


def hits(
    session: "Session",
    view: View,
    encoded: EncodedQuery,
    template: Template | None,
    ranked: Candidates,
    groups: Groups | None,
    images: "CodedImages | None" = None,
) -> list[Hit]:
    """Hits in the order of the candidates. An image that was erased a moment ago is left out.

    images: those that are searched, where the hits say what their similarity means.
    """
    everything = Candidates.joined([ranked, *(others for others, _ in groups or [])])
    rows = _rows(view, everything)
    shown = session.store.shown(rows)
    sources = session.sources([image.id for image in shown.values()])
    texts = session.store.texts_of(rows)
    itself = encoded.itself
    matches: list[int] | None = None
    if encoded.members:
        from medlike.archive.search.study_query import matched

        matches = matched(view, everything, encoded.members).tolist()
    distances, similarities = _known(everything.distance), _known(everything.similarity)
    placed = template is not None or encoded.cells is not None
    keys, numbers = _patients(view, everything), dict[bytes, int]()
    meanings = None if images is None else _meanings(session, images, view, similarities)

    def patient(at: int) -> int | None:
        key = keys[at]
        return None if key is None else numbers.setdefault(key, len(numbers) + 1)

    def made(at: int, rank: int, others: tuple[Hit, ...] = (), size: int | None = None) -> Hit:
        image = shown[rows[at]]
        compared = encoded if matches is None else encoded.members[matches[at]]
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
            itself=image.id in itself,
            member=None if matches is None else matches[at] + 1,
            patient=patient(at),
            texts=texts.get(rows[at], {}),
            **({} if meanings is None else meanings[at]),
            **(_place(view, compared, template, everything, at, image) if placed else {}),
        )

    shown_hits: list[Hit] = []
    start = len(ranked)
    for at in range(len(ranked)):
        others: tuple[Hit, ...] = ()
        size = None
        if groups is not None:
            if rows[at] in shown:
                patient(at)  # numbered before those of its group
            stop, size = start + len(groups[at][0]), groups[at][1]
            behind = [other for other in range(start, stop) if rows[other] in shown]
            others = tuple(made(other, rank) for rank, other in enumerate(behind, 2))
            start = stop
        if rows[at] in shown:
            shown_hits.append(made(at, len(shown_hits) + 1, others, size))
    return shown_hits


def _meanings(
    session: "Session", images: "CodedImages", view: View, similarities: Sequence[float | None]
) -> list[JsonObject]:
    """Return what similarities mean in the archive, as fields of hits: `label_share`, else `neighbour_share`."""
    pairs, usual = session.loaded.pairs(images, view), session.loaded.usual(images, view)
    values = np.array([np.nan if value is None else value for value in similarities], np.float32)
    nearer = np.searchsorted(usual, values, side="right")
    meanings: list[JsonObject] = []
    for at, share in enumerate(label_shares(pairs, values)):
        if share is not None or similarities[at] is None or len(usual) < UNITS:
            meanings.append({"label_share": share})
        else:
            meanings.append({"neighbour_share": float(nearer[at]) / len(usual)})
    return meanings


def label_shares(pairs: "LabelPairs", similarities: NDArray[np.float32]) -> list[float | None]:
    """Return the share of pairs as similar that have the same label, for each similarity; None if they are too few.

    A more similar hit never has a smaller share.

    Args:
        pairs: Of the archive.
        similarities: float32 [M], from -1 to 1; NaN for none. Beyond the pairs, the share is that of the nearest ones.
    """
    starts, shares = pairs.steps
    if not len(starts):
        return [None] * len(similarities)
    at = np.maximum(np.searchsorted(starts, similarities, side="right") - 1, 0)
    known = np.where(np.isnan(similarities), np.nan, shares[at]).tolist()
    return [None if share != share else share for share in known]


def _rows(view: View, ranked: Candidates) -> list[int]:
    """The store's rows of candidates."""
    rows = np.empty(len(ranked), np.int64)
    for number, part in enumerate(view.parts):
        inside = ranked.part == number
        positions = ranked.position[inside]
        rows[inside] = part.segment.array("rows", positions)[positions]
    return rows.tolist()


def _patients(view: View, ranked: Candidates) -> list[bytes | None]:
    """Return the keyed hashes of the candidates' patients, None where they are not known."""
    columns = [part.segment.column("patient") for part in view.parts]
    keys: list[bytes | None] = []
    for part, position in zip(ranked.part.tolist(), ranked.position.tolist(), strict=True):
        code = int(columns[part].codes[position])
        keys.append(columns[part].values[code - 1] if code else None)
    return keys


def _place(
    view: View, encoded: EncodedQuery, template: Template | None, ranked: Candidates, at: int, image: Shown
) -> JsonObject:
    """Where in an image the match is, as a hit says it."""
    part, position = view.parts[ranked.part[at]], int(ranked.position[at])
    if template is None or ranked.windows[at] < 0:
        return _whole(encoded, part, position)
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


def _whole(encoded: EncodedQuery, part: Part, position: int) -> JsonObject:
    """Agreement of two whole images, cell by cell in place, and whether one is the other's mirror image."""
    if encoded.cells is None or encoded.mask is None or "cells" not in part.segment.layout.arrays():
        return {"agreement": None}
    stored = np.asarray(part.segment.array("cells", position)[position])
    mask = unpack_grids(np.asarray(part.segment.array("cell_mask", position)[position])[None], GRID)[0]
    shares = equal_bits(encoded.cells, stored, encoded.mask & mask)
    mirrored = equal_bits(encoded.cells[:, ::-1], stored, encoded.mask[:, ::-1] & mask)
    return {"agreement": shares, "mirrored": is_mirrored(shares, mirrored)}


def equal_bits(cells: NDArray[np.uint64], stored: NDArray[np.uint64], mask: Mask) -> NDArray[np.float32]:
    """Return the share of equal bits of each cell: float32 [14, 14], NaN outside of the mask.

    Args:
        cells: uint64 [14, 14, W], of one image.
        stored: uint64 [14, 14, W], of the other.
        mask: bool [14, 14], True in the cells that both images cover.
    """
    flips = np.bitwise_count(cells ^ stored).sum(axis=2)
    return np.where(mask, 1 - flips.astype(np.float32) / (64 * stored.shape[2]), np.float32(np.nan))


def is_mirrored(straight: NDArray[np.float32], mirrored: NDArray[np.float32]) -> bool:
    """Return True if two images agree mirrored, and better so than as they are; see `equal_bits` for both."""
    if np.isnan(mirrored).all():
        return False
    share = float(np.nanmean(mirrored))
    return share >= MIRRORED_SHARE and (bool(np.isnan(straight).all()) or share > float(np.nanmean(straight)))
