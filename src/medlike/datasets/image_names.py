"""Neutral names of images in reports, and the list that leads back to the files.

A file name or a folder can hold a patient's name. A report that may be passed on calls an image "image 17"; the list
beside it, for its owner alone, says which file that is.
"""

import io
from collections.abc import Sequence
from pathlib import Path

from medlike.escaping import write_rows
from medlike.files import PRIVATE, write_text

NAMES = "names.csv"


def image_name(row: int) -> str:
    """Return the neutral name of the image in a row, counted from 0: "image 1" for row 0."""
    return f"image {row + 1}"


def write_names(folder: Path, head: Sequence[str], rows: Sequence[Sequence[str | int]]) -> Path:
    """Write which file each neutral name stands for, as names.csv that its owner alone may read.

    Args:
        folder: Of the report.
        head: Names of the columns.
        rows: Neutral name, path and the like. Without any, no list is left there, nor that of an earlier report.

    Returns:
        The list's path.
    """
    path = folder / NAMES
    if not rows:
        path.unlink(missing_ok=True)
        return path
    text = io.StringIO()
    write_rows(text, [head, *rows])
    return write_text(path, text.getvalue(), PRIVATE)
