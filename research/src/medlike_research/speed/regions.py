"""`medlike bench regions`: the nearest window in every image, beside numpy doing the same in chunks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from medlike.codes.templates import SCALES, Template
from medlike.codes.windows import match
from medlike_research.speed.gallery import cells
from medlike_research.speed.timing import Figures, rounds

K = 50
WINDOW = (3, 4)
FIRST, PASS = 1024, 65_536  # images between two looks at the k-th best so far, at first and at most


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """One region of 3 x 4 cells against all images. images: 1 M; quick 50,000. Cells of 64 bits, k = 50, exact.

    Lines in seconds: regions-1 (one orientation), regions-8, regions-24 (and three scales), regions-encoded (the same
    where each orientation has cells of its own, as for a query that is an image); ratio regions-numpy, ours over a
    chunked numpy version of regions-8 on a part of the images; the same for uniform cells.
    """
    number = images or (50_000 if quick else 1_000_000)
    times = 3 if quick else 5
    found = Figures("regions", {"images": number, "k": K, "window": WINDOW, "rounds": times, "quick": quick})
    masks = np.full((number, 25), 255, np.uint8)
    for kind in ("clustered", "uniform"):
        tell(f"{number:,} images of {kind} cells")
        held = cells(kind, number)
        query = held[number // 2, 4 : 4 + WINDOW[0], 6 : 6 + WINDOW[1]].copy()
        turned = np.stack([held[number // 3 + each, 4 : 4 + WINDOW[0], 6 : 6 + WINDOW[1]] for each in range(7)])
        name = "" if kind == "clustered" else "-uniform"
        templates = {
            "1": Template.of(query, orientations=1, scales=(1.0,)),
            "8": Template.of(query, scales=(1.0,)),
            "24": Template.of(query, scales=SCALES),
            "encoded": Template.of(query, scales=SCALES, turned=turned),
        }
        rivals = {each: partial(nearest, held, masks, template) for each, template in templates.items()}
        for each, value in rounds(rivals, times).items():
            found.seconds(f"regions-{each}{name}", value.median)
        part = min(number, 4000)
        against = {
            engine: partial(match, held[:part], masks[:part], templates["8"], None, np.inf, engine)
            for engine in ("compiled", "numpy")
        }
        spent = rounds(against, 1)
        # How many times as fast: higher is better.
        found.rate(f"regions-numpy{name}", spent["compiled"], spent["numpy"], f"numpy in chunks, {part:,} images")
    return found


def nearest(held: Any, masks: Any, template: Template, k: int = K) -> list[tuple[float, int]]:
    """The k nearest images by (distance, row); the k-th best so far is the limit of what follows."""
    best: list[tuple[float, int]] = []
    start, step = 0, FIRST
    while start < len(held):
        part = slice(start, min(start + step, len(held)))
        limit = best[-1][0] if len(best) == k else np.inf
        matches = match(held[part], masks[part], template, None, limit, "compiled")
        best += [(float(near), int(row) + start) for near, row in zip(matches.distance, matches.rows, strict=True)]
        best = sorted(best)[:k]
        start, step = start + step, min(2 * step, PASS)
    return best
