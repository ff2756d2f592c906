"""Prepare an image for the encoder: render, letterbox and fingerprint it."""

from dataclasses import dataclass

from medlike.imaging.fingerprints import fingerprint
from medlike.imaging.image import Image
from medlike.imaging.letterbox import SIZE, Letterbox, letterbox
from medlike.imaging.rendering import render
from medlike.types import U8


@dataclass(frozen=True, eq=False)
class Prepared:
    """Hold an image as the network takes it.

    Attributes:
        pixels: uint8 [S, S], 0 outside of the picture.
        letterbox: Where the picture lies in the square.
        fingerprint: uint8 [16, 16].
    """

    pixels: U8
    letterbox: Letterbox
    fingerprint: U8


def prepare(image: Image, size: int = SIZE) -> Prepared:
    """Render an image, letterbox it to `size` by `size` pixels, and make its fingerprint.

    The fingerprint does not depend on the size.

    Raises:
        ImageError: No pixel is a number.
    """
    grey = render(image)
    square, place = letterbox(grey, size)
    return Prepared(square, place, fingerprint(square if size == SIZE else letterbox(grey)[0]))
