"""A page of a raster file as it is stored, before it becomes an image."""

from typing import NamedTuple

import numpy as np


class Page(NamedTuple):
    """Hold a decoded page.

    Attributes:
        pixels: Integers or floats, [H, W] or [H, W, 3], over black.
        inverted: True if their lowest value is white.
        transparent: True if a part of the page is transparent.
        bits: Bits of a sample if the file declares fewer than 16.
        scale: Lowest and highest value of the scale if the file declares it.
    """

    pixels: np.ndarray
    inverted: bool = False
    transparent: bool = False
    bits: int = 16
    scale: tuple[float, float] | None = None
