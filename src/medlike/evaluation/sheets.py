"""Contact sheets: a query and its nearest images in a row, as a JPEG; only what may be shown is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from medlike.datasets import Sample, may_draw, open_sample
from medlike.display.page import data_uri
from medlike.evaluation.protocols import Arena, Retrieval

_SIDE = 112
_GAP = 6
_TEXT = 15
_RIGHT, _WRONG, _QUERY = (0, 158, 115), (213, 94, 0), (40, 40, 40)


@dataclass(frozen=True)
class Sheet:
    """Hold a row of pictures.

    Attributes:
        title: Heading.
        image: JPEG as a data URI.
        description: Text below the pictures.
    """

    title: str
    image: str
    description: str


def contact_sheets(
    arena: Arena, outcome: Retrieval, near: Callable[[int], np.ndarray], draw_all: bool = False, each: int = 3
) -> list[Sheet]:
    """Draw the best, median and worst queries by average precision, each with its nearest images in a row.

    Queries whose terms do not allow being drawn are left out; such gallery images appear as a card with their label.

    Args:
        arena: Queries and gallery.
        outcome: Average precision of the queries.
        near: Returns the gallery rows of a query's row, nearest first.
        draw_all: Draw every image; the user answers for the terms.
        each: Queries of each kind.
    """
    ap = outcome.ap
    allowed = np.array([draw_all or may_draw(query) for query in arena.queries])
    order = [row for row in np.argsort(-ap, kind="stable").tolist() if allowed[row] and not np.isnan(ap[row])]
    middle = max(0, len(order) // 2 - each // 2)
    sheets = []
    chosen = {"best": order[:each], "median": order[middle : middle + each], "worst": order[::-1][:each]}
    for name, rows in chosen.items():
        for row in rows:
            query, hits = arena.queries[row], [arena.gallery[int(g)] for g in near(row)]
            right = sum(h.label == query.label for h in hits)
            sheets.append(
                Sheet(
                    f"{name}: {query.label}",
                    _row(query, hits, draw_all),
                    f"average precision {ap[row]:.2f}; {right} of the first {len(hits)} share the label",
                )
            )
    return sheets


def _row(query: Sample, hits: list[Sample], draw_all: bool) -> str:
    tiles = [(query, _QUERY)] + [(h, _RIGHT if h.label == query.label else _WRONG) for h in hits]
    width = len(tiles) * (_SIDE + _GAP) + 3 * _GAP
    sheet = PillowImage.new("RGB", (width, _SIDE + _TEXT + 2 * _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    x = _GAP
    for place, (sample, colour) in enumerate(tiles):
        sheet.paste(_tile(sample, draw_all), (x, _GAP))
        pen.rectangle((x - 2, _GAP - 2, x + _SIDE + 1, _GAP + _SIDE + 1), outline=colour, width=2)
        pen.text((x, _GAP + _SIDE + 3), _short("query" if place == 0 else sample.label), fill=colour)
        x += _SIDE + _GAP + (2 * _GAP if place == 0 else 0)
    return data_uri(sheet, quality=82)


def _tile(sample: Sample, draw_all: bool) -> PillowImage.Image:
    from medlike.imaging import letterbox, render

    if draw_all or may_draw(sample):
        square, _ = letterbox(render(open_sample(sample)), _SIDE)
        return PillowImage.fromarray(square).convert("RGB")
    card = PillowImage.new("RGB", (_SIDE, _SIDE), "#e9e9e9")
    pen = ImageDraw.Draw(card)
    for line, text in enumerate(["not drawn:", "its terms", "are not stated", "or forbid it"]):
        pen.text((8, 24 + 15 * line), text, fill="#666666")
    return card


def _short(text: str, most: int = 18) -> str:
    return text if len(text) <= most else "..." + text[3 - most :]
