"""Contact sheets: a query and its nearest images in a row, as a JPEG; only what may be shown is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from medlike.datasets import Sample, may_draw, open_sample
from medlike.evaluation.protocols import Arena, Retrieval

_SIDE = 112
_GAP = 6
_TEXT = 15
_RIGHT, _WRONG, _QUERY = (0, 158, 115), (213, 94, 0), (40, 40, 40)


@dataclass(frozen=True)
class Sheet:
    """A row of pictures as a data URI, with the words that go with it."""

    title: str
    image: str
    description: str


def contact_sheets(
    arena: Arena, outcome: Retrieval, near: Callable[[int], np.ndarray], draw_all: bool = False, each: int = 3
) -> list[Sheet]:
    """Rows for the best, median and worst queries by average precision.

    near: gallery rows of a query, nearest first. Queries whose terms do not allow being drawn are passed
    over; such gallery images appear as a card with their label. draw_all: the user answers for the terms.
    """
    ap = outcome.ap
    allowed = [draw_all or may_draw(query) for query in arena.queries]
    shown = [row for row in range(len(ap)) if allowed[row] and not np.isnan(ap[row])]
    order = sorted(shown, key=lambda row: (-ap[row], row))
    if not order:
        return []
    middle = max(0, len(order) // 2 - each // 2)
    sheets = []
    for name, rows in (
        ("best", order[:each]),
        ("median", order[middle : middle + each]),
        ("worst", order[::-1][:each]),
    ):
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
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


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
