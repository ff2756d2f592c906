"""Results as HTML that needs nothing else: styles inside, images as data URIs, no script."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from PIL import Image as Pillow

from medlike import files
from medlike.archive.search.result import Hit, Result
from medlike.display.legend import legend
from medlike.display.sheet import (
    MISSING,
    NOTICE,
    absent,
    described,
    judgements,
    measure,
    remark,
    seen,
    shown_hit,
    shown_query,
)
from medlike.display.templates import template
from medlike.types import JsonObject

LONGEST = 400  # characters of a query in words that are shown in place of its picture


def page(
    results: Sequence[Result],
    path: str | Path | None = None,
    title: str = "medlike",
    side: int = 320,
    attributions: Sequence[str] = (),
) -> str:
    """Draw results as a self-contained HTML page.

    Args:
        results: One section each, in this order.
        path: Where the page is written, whole or not at all; None does not write.
        title: Heading of the page.
        side: Longest side of the images, pixels.
        attributions: Whose the images are, and under which terms; a line each at the end of the page.

    Returns:
        The page.
    """
    text = _render("page.html", results, side, title=title, attributions=attributions)
    if path is not None:
        files.write(Path(path), text.encode(), mode=0o644)
    return text


def fragment(result: Result, side: int = 224) -> str:
    """Draw one result for a notebook.

    Args:
        result: The result.
        side: Longest side of the images, pixels.

    Returns:
        HTML.
    """
    return _render("fragment.html", [result], side)


def _render(name: str, results: Sequence[Result], side: int, **facts: object) -> str:
    style = Markup(template("results.css").render())  # our own, not from outside
    sections = [_section(result, side) for result in results]
    facts |= {"notice": NOTICE, "missing": MISSING, "legend": legend(results)}
    return template(name).render(results=sections, style=style, **facts)


def _section(result: Result, side: int) -> JsonObject:
    """Return what a template shows of a result."""
    words = None
    if result.in_words_only:
        words = result.query_text or ""
        words = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    return {
        "title": result.title,
        "words": words,
        "picture": None if words is not None else _data(shown_query(result, side)),
        "absent": absent(result),
        "seen": seen(result),
        "judgements": judgements(result),
        "warnings": result.warnings,
        "hits": [_hit(result, hit, side) for hit in result.hits],
    }


def _hit(result: Result, hit: Hit, side: int) -> JsonObject:
    below = described(hit)
    return {
        "rank": hit.rank,
        "id": hit.id,
        "remark": remark(hit),
        "picture": _data(shown_hit(result, hit, side, hit.box is not None)),
        "more": max((hit.group_size or 1) - 1, 0),
        "measure": measure(hit),
        "below": below,
        "snippet": hit.snippet or below,
    }


def _data(picture: Pillow.Image | None) -> str | None:
    return None if picture is None else data_uri(picture)


def data_uri(picture: Pillow.Image, quality: int = 88) -> str:
    """Return a picture as a data URI: a JPEG of this quality, 1 to 95."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
