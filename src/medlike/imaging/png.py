"""PNG files whose stored values Pillow narrows or whose transparent value it mistakes.

Pillow keeps 8 bits of 16-bit colour, and compares the transparent grey of 1, 2 and 4 bits with values that it has
scaled to 8. Source: PNG 3rd edition, 11.2.1 IHDR, 11.3.1.1 tRNS.
"""

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile

from medlike.errors import ImageError
from medlike.imaging.arrays import over_black, wide_samples
from medlike.imaging.page import Page

_GREY, _RGB, _GREY_ALPHA = 0, 2, 4


def png_page(path: Path, picture: PillowImage.Image, start: bytes) -> Page | None:
    """Return the stored values of a PNG, uint8 or uint16, not yet turned; None where Pillow gives the same.

    Args:
        path: the file.
        picture: the file as Pillow opened it.
        start: at least its first 26 bytes.

    Raises:
        ImageError: for animations of 16 bits a sample in colour.
    """
    depth, colour = start[24], start[25]
    clear = picture.info.get("transparency")
    if colour == _GREY and isinstance(clear, int):
        pixels = np.array(picture.convert("L") if picture.mode == "1" else picture)
        # Fewer than 8 bits come spread over 0 .. 255.
        through = pixels == (clear if depth >= 8 else clear * 255 // (2**depth - 1))
        pixels[through] = 0
        return Page(pixels, transparent=bool(through.any()))
    if depth != 16 or colour == _GREY:
        return None
    if getattr(picture, "n_frames", 1) > 1:
        raise ImageError("an animated PNG of 16 bits in colour is not read: save its frames one by one")

    def opened() -> ImageFile.ImageFile:
        return PillowImage.open(path, formats=["PNG"])

    if colour == _RGB:
        pixels = wide_samples(opened, "RGB;16B", "RGB;16L")
        through = (pixels == np.asarray(clear if isinstance(clear, tuple) else (-1, -1, -1))).all(axis=2)
        pixels[through] = 0
        return Page(pixels, transparent=bool(through.any()))
    if colour == _GREY_ALPHA:
        # Two samples of 16 bits are four bytes, which is what a pixel of 8-bit RGBA has.
        pixels = wide_samples(opened, "RGBA").view(">u2").astype(np.uint16)
    else:
        pixels = wide_samples(opened, "RGBA;16B", "RGBA;16L")
    flat = over_black(pixels)
    transparent = bool((pixels[..., -1] < 65535).any())
    return Page(flat[..., 0] if colour == _GREY_ALPHA else flat, transparent=transparent)
