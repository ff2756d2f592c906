"""medlike against the witnesses, file by file."""

import tempfile
from pathlib import Path

import numpy as np
import rasters
import shown
import variants
from witnesses import witness

from medlike.errors import ImageError
from medlike.imaging import read, render

SHOWN = "window or table"
FAMILIES = [*variants.FAMILIES, SHOWN, *rasters.FAMILIES]


def compare(family, seed):
    """Return how medlike and the witness disagree about a drawn file, or None; and the file in words.

    Args:
        family: One of FAMILIES.
        seed: The same seed gives the same file.
    """
    how = _shown if family == SHOWN else _dicom if family in variants.FAMILIES else _raster
    with tempfile.TemporaryDirectory() as folder:
        return how(family, seed, Path(folder))


def _dicom(family, seed, folder):
    drawn = variants.variant(family, seed, folder)
    expected = witness(drawn.honest, folder)
    if drawn.values is not None:
        apart = difference(expected, drawn.values, 0)
        if apart:
            return f"the witness reads what was not written: {apart}", drawn.words
    return disagreement(drawn.path, expected, drawn.tolerance), drawn.words


def _shown(family, seed, folder):
    drawn = shown.draw_shown(seed, folder)
    expected = shown.witness(drawn)
    try:
        picture = render(next(read(drawn.path)))
    except ImageError as refusal:
        return f"refused: {refusal}", drawn.words
    return difference(picture, expected, shown.TOLERANCE), drawn.words


def _raster(family, seed, folder):
    drawn, words = rasters.draw_raster(family, seed, folder)
    return disagreement(drawn.path, rasters.witness(drawn)[None], drawn.tolerance), words


def disagreement(path, expected, tolerance):
    """Return how medlike's stored values of a file differ from a witness's, or None.

    Args:
        path: The file.
        expected: Integers [F, H, W] or [F, H, W, 3].
        tolerance: Largest difference that is right.
    """
    try:
        images = [image.pixels for image in read(path, frames="all")]
    except ImageError as refusal:
        return f"refused: {refusal}"
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        return f"frames of {shapes}"
    return difference(np.stack(images), expected, tolerance)


def difference(values, expected, tolerance):
    """Return how values differ from the expected ones by more than a tolerance, or None."""
    if values.shape != expected.shape:
        return f"shape {values.shape}, {expected.shape} expected"
    if values.dtype == np.float32:
        expected = expected.astype(np.float32)
    apart = np.abs(values.astype(np.float64) - expected)
    if apart.max() <= tolerance:
        return None
    where = tuple(int(at) for at in np.unravel_index(apart.argmax(), apart.shape))
    return (
        f"{np.mean(apart > tolerance):.0%} of the values differ, by {apart.max():g} at most: "
        f"{values[where]:g} at {where}, {expected[where]:g} expected"
    )
