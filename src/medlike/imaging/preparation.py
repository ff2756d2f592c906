"""Prepare an image for the encoder: render, letterbox and fingerprint it."""

from dataclasses import dataclass

from medlike.imaging.fingerprints import fingerprint
from medlike.imaging.image import Image
from medlike.imaging.letterbox import Letterbox, letterbox
from medlike.imaging.rendering import render
from medlike.types import U8


@dataclass(frozen=True, eq=False)
class Prepared:
    """Hold an image as the network takes it.

    Attributes:
        pixels: uint8 [224, 224], 0 outside of the picture.
        letterbox: Where the picture lies in the square.
        fingerprint: uint8 [16, 16].
    """

    pixels: U8
    letterbox: Letterbox
    fingerprint: U8


def prepare(image: Image) -> Prepared:
    """Render an image, letterbox it to 224 by 224 pixels, and make its fingerprint.

    Raises:
        ImageError: No pixel is a number.
    """
    square, place = letterbox(render(image))
    return Prepared(square, place, fingerprint(square))
