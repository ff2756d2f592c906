"""medlike against the witnesses, file by file."""

import tempfile
from pathlib import Path

import numpy as np
from variants import variant
from witnesses import witness

from medlike.errors import ImageError
from medlike.imaging import read


def compare(family, seed):
    """Return how medlike and the witness disagree about a variant, or None; and the variant in words."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = variant(family, seed, Path(folder))
        expected = witness(drawn.honest, folder)
        if drawn.values is not None:
            apart = difference(expected, drawn.values, 0)
            if apart:
                return f"the witness reads what was not written: {apart}", drawn.words
        return disagreement(drawn.path, expected, drawn.tolerance), drawn.words


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
