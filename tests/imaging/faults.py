"""Print, for every input of a folder, whether medlike reads it right, refuses it with a reason, or reads it wrong.

    python tests/imaging/faults.py FOLDER

Each input is described by NAME.case.json:

    file        the input, beside the description
    arrays      an .npz with the expected `pixels` (stored values), `render` and `colour` (0 .. 255) of the first image
                read, or of image N where the name ends in N (`pixels3`); or null
    tol         largest difference of a value that is still right; without it 0 for pixels, 1 for render and colour
    frames      frames to read, "middle" if absent
    count       how many images the frames give
    meta        expected members of the metadata
    nottext     names, dates and numbers that may stand in no text of the image

Exit code 1: an input is read wrong.
"""

import argparse
import json
import re
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from medlike.errors import ImageError
from medlike.imaging import read, render, render_colour

RENDERED = {"pixels": lambda image: image.pixels, "render": render, "colour": render_colour}

#: Shorter names are part of many words: they count where they are a word of their own.
WHOLE_WORD = 4


def verdict(folder, case):
    """Return one row's verdict: "right", "refused: reason" or "WRONG: what".

    Args:
        folder: Folder of the input.
        case: Its description, as in NAME.case.json.
    """
    try:
        images = list(read(folder / case["file"], frames=case.get("frames", "middle")))
    except ImageError as refusal:
        return f"refused: {refusal}"
    try:
        wrong = [*differences(folder, case, images), *leaks(case, images)]
    except ImageError as refusal:
        return f"refused: {refusal}"
    return f"WRONG: {'; '.join(wrong)}" if wrong else "right"


def differences(folder, case, images):
    """Yield what of count, metadata and arrays is not as expected."""
    if "count" in case and len(images) != case["count"]:
        yield f"{len(images)} images, {case['count']} expected"
    for key, value in case.get("meta", {}).items():
        if images[0].metadata.get(key) != value:
            yield f"{key} is {images[0].metadata.get(key)!r}, {value!r} expected"
    if not case.get("arrays"):
        return
    with np.load(folder / case["arrays"]) as arrays:
        for name in arrays.files:
            kind, number = re.fullmatch(r"(pixels|render|colour)(\d*)", name).groups()
            if int(number or 0) < len(images):
                wrong = difference(kind, RENDERED[kind](images[int(number or 0)]), arrays[name], case.get("tol"))
                if wrong:
                    yield f"{name} {wrong}"


def difference(kind, values, expected, tolerance):
    """Return how an array differs from the expected one, or None. A grey picture is a colour one of equal channels."""
    if kind == "colour" and values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.shape != expected.shape:
        return f"has shape {values.shape}, {expected.shape} expected"
    limit = (kind != "pixels") if tolerance is None else tolerance
    apart = np.abs(values.astype(np.float64) - expected.astype(np.float64))
    if apart.max() <= limit:
        return None
    where = tuple(int(at) for at in np.unravel_index(apart.argmax(), apart.shape))
    return (
        f"differs at {np.mean(apart > limit):.0%} of the values, by {apart.max():g} at most: "
        f"{values[where]} at {where}, {expected[where]} expected"
    )


def leaks(case, images):
    """Yield the texts of the images that hold what may stand in none."""
    for image in images:
        for key, text in {**image.texts, **image.metadata}.items():
            for planted in case.get("nottext", ()):
                if holds(str(text), planted):
                    yield f"{key} holds {planted!r}: {text!r}"


def holds(text, planted):
    """Return whether a text holds a name or number, in whatever case and Unicode form."""
    text, planted = (unicodedata.normalize("NFKC", part).casefold() for part in (text, planted))
    if planted.isascii() and len(planted) < WHOLE_WORD:
        return re.search(rf"(?<![^\W\d_]){re.escape(planted)}(?![^\W\d_])", text) is not None
    return planted in text


def main():
    parser = argparse.ArgumentParser(description="Print which inputs medlike reads right, refuses, or reads wrong.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    cases = sorted(folder.glob("*.case.json"))
    if not cases:
        parser.error(f"{folder} holds no NAME.case.json")
    counts = Counter()
    for path in cases:
        case = json.loads(path.read_text(encoding="utf-8"))
        row = verdict(folder, case)
        counts[row.split(":")[0]] += 1
        print(f"{case['name']:<40} {row}")
    print(f"{len(cases)} inputs: {counts['right']} right, {counts['refused']} refused, {counts['WRONG']} wrong")
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
