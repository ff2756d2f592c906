"""The region of a query: its cells, as the query's image has them and as they look turned and mirrored."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medlike.archive.search.result import Box, Picture
from medlike.codes.templates import GRID, ORIENTATIONS, oriented, restored
from medlike.errors import QueryError
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from medlike.imaging import Letterbox, Prepared
    from medlike.inference.encoding import Encodes

FLAT = 0.7  # share of flat cells from which a region says too little
_FLAT_SPREAD = 3.0  # grey levels: a cell whose pixels vary less shows nothing


@dataclass(frozen=True)
class Region:
    """The cells of a query's box. codes: uint64 [h, w, L / 64]; counted: bool [h, w], False in padding.

    turned: uint64 [7, h, w, L / 64], the same cells as the network sees them in the picture turned and mirrored, by
    orientation from 1 on; None if it was not encoded like that.
    """

    box: Box
    codes: NDArray[np.uint64]
    counted: NDArray[np.bool_]
    turned: NDArray[np.uint64] | None = None

    def facts(self) -> JsonObject:
        """As a receipt holds it. Without turned cells it is what an earlier medlike wrote."""
        return {
            "box": list(self.box),
            "shape": list(self.codes.shape),
            "codes": _words_to_text(self.codes),
            "counted": base64.b64encode(np.packbits(self.counted).tobytes()).decode(),
            **({} if self.turned is None else {"turned": _words_to_text(self.turned)}),
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Json]) -> "Region":
        """From a receipt."""
        shape = tuple(int(side) for side in facts["shape"])
        if len(shape) != 3 or not all(1 <= side <= GRID for side in shape[:2]):
            raise ValueError(f"a region of shape {shape[:4]} has no cells of {GRID} x {GRID}")
        codes = _text_to_words(facts["codes"]).reshape(shape)
        bits = np.frombuffer(base64.b64decode(facts["counted"]), np.uint8)
        counted = np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape[:2])
        x0, y0, x1, y1 = (float(edge) for edge in facts["box"])
        turned = facts.get("turned")
        seen = None if turned is None else _text_to_words(turned).reshape(ORIENTATIONS - 1, *shape)
        return cls((x0, y0, x1, y1), codes, counted, seen)


def region_of(
    box: Sequence[float],
    size: tuple[int, int],
    cells: NDArray[np.uint64],
    mask: NDArray[np.bool_] | None,
    picture: Picture | None,
    turned: NDArray[np.uint64] | None = None,
) -> tuple[Region, tuple[str, ...]]:
    """Return the cells that hold a box, and warnings about it.

    Args:
        box: x0, y0, x1, y1 in the image's own pixels.
        size: Width and height of the image.
        cells: uint64 [14, 14, L / 64].
        mask: bool [14, 14], False in padding; None works it out.
        picture: The image, by which flat regions are warned of; None if its pixels are gone.
        turned: uint64 [7, 14, 14, L / 64], as `turned_cells` returns them.

    Raises:
        QueryError: The box lies outside of the image.
    """
    from medlike.imaging import Letterbox

    width, height = size
    x0, y0, x1, y1 = box
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise QueryError(f"the region {list(box)} lies outside of the image of {width} x {height} pixels")
    warnings = []
    if inside != (x0, y0, x1, y1):
        warnings.append(f"the region was cut to the image of {width} x {height} pixels")
    place = Letterbox.of(height, width)
    row0, column0, row1, column1 = place.cells(inside)
    codes = np.ascontiguousarray(cells[row0:row1, column0:column1])
    valid = place.valid_cells() if mask is None else mask
    counted = np.ascontiguousarray(valid[row0:row1, column0:column1])
    if not counted.any():
        # A box so thin that it touches only cells whose centre is padding: they are all there is.
        counted = np.ones_like(counted)
    share = _flat(picture, place, (row0, column0, row1, column1), counted)
    if share > FLAT:
        warnings.append(f"{100 * share:.0f} % of the region is flat: what is found may have little to do with it")
    others = None if turned is None else np.ascontiguousarray(turned[:, row0:row1, column0:column1])
    return Region(inside, codes, counted, others), tuple(warnings)


def turned_cells(encoder: "Encodes", picture: "Prepared") -> NDArray[np.uint64]:
    """Return the local codes of a picture turned and mirrored, each brought back to where it lies in the picture.

    A cell looks different to the network in each orientation, so codes that are merely rearranged match less well.

    Args:
        encoder: One whose bundle has local codes.
        picture: The picture, prepared for the encoder.

    Returns:
        uint64 [7, 14, 14, L / 64], by orientation from 1 on.
    """
    orientations = range(1, ORIENTATIONS)
    pictures = [np.ascontiguousarray(oriented(picture.pixels, each)) for each in orientations]
    cells = encoder.encode([replace(picture, pixels=pixels) for pixels in pictures]).cells
    if cells is None:
        raise QueryError("the encoder gives no local codes, so a region cannot be searched for")
    return np.stack([restored(square, each) for square, each in zip(cells, orientations, strict=True)])


def _words_to_text(words: NDArray[np.uint64]) -> str:
    return base64.b64encode(words.astype("<u8").tobytes()).decode()


def _text_to_words(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode(text), "<u8").astype(np.uint64)


def _flat(
    picture: Picture | None, place: "Letterbox", cells: tuple[int, int, int, int], counted: NDArray[np.bool_]
) -> float:
    """Share of a window's counted cells whose pixels hardly vary; 0 where the pixels are gone."""
    if picture is None:
        return 0.0
    from medlike.imaging import from_array, prepare

    # A preview is smaller than the image, but letterboxes to the same place up to a pixel.
    square = prepare(from_array(picture)).pixels
    side = place.size // GRID
    row0, column0, row1, column1 = cells
    window = square[row0 * side : row1 * side, column0 * side : column1 * side].astype(np.float32)
    blocks = window.reshape(row1 - row0, side, column1 - column0, side)
    return float((blocks.std(axis=(1, 3)) < _FLAT_SPREAD)[counted].mean())
