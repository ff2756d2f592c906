"""Pictures of regional search: a query with its box, its nearest windows and what was labelled, as one JPEG a query."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from medlike.datasets import may_draw
from medlike_research.studies.regions_boxes import Boxed, reached
from medlike_research.studies.regions_search import Found

TILE = 150
GAP = 8
SHOWN = 5
QUERY, RIGHT, WRONG, LABELLED = (90, 90, 90), (0, 158, 115), (213, 94, 0), (86, 180, 233)


def row_picture(boxed: Boxed, row: int, found: Found, draw_all: bool = False) -> PillowImage.Image | None:
    """The query and its first hits. Green: the found box reaches a labelled one, orange: not; blue: labelled.

    None where the query's terms do not allow it to be shown; such hits are passed over.
    """
    if not (draw_all or may_draw(boxed.samples[row])):
        return None
    tiles = [_tile(boxed.pixels[row], boxed.boxes[row][:0], boxed.query_box(row), QUERY)]
    for at in found.first():
        other = int(found.rows[at])
        if len(tiles) > SHOWN or not (draw_all or may_draw(boxed.samples[other])):
            continue
        right = bool(reached(found.box[at][None], boxed.turned_boxes[other])[0])
        tiles.append(_tile(boxed.turned[other], boxed.turned_boxes[other], found.box[at], RIGHT if right else WRONG))
    sheet = PillowImage.new("RGB", ((SHOWN + 1) * (TILE + GAP) + GAP, TILE + 2 * GAP), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (GAP + place * (TILE + GAP), GAP))
    return sheet


def as_image(sheet: PillowImage.Image, description: str) -> str:
    """A picture as an <img> that needs no file."""
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return (
        f'<img alt="{description}" style="max-width:100%" '
        f'src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )


def _tile(pixels: np.ndarray, labelled: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> PillowImage.Image:
    tile = PillowImage.fromarray(np.ascontiguousarray(pixels)).convert("RGB").resize((TILE, TILE))
    pen = ImageDraw.Draw(tile)
    scale = TILE / len(pixels)
    for each in labelled:
        pen.rectangle([float(v) for v in each * scale], None, LABELLED, 1)
    pen.rectangle([float(v) for v in box * scale], None, colour, 3)
    return tile
