"""Prepare an image for the encoder: render, letterbox and fingerprint it."""

from dataclasses import dataclass

import numpy as np

from medlike.imaging.fingerprints import fingerprint
from medlike.imaging.image import Image
from medlike.imaging.letterbox import Letterbox, letterbox
from medlike.imaging.rendering import render


@dataclass(frozen=True, eq=False)
class Prepared:
    """pixels: uint8 [224, 224], 0 outside of the picture. letterbox: where it lies. fingerprint: uint8 [16, 16]."""

    pixels: np.ndarray
    letterbox: Letterbox
    fingerprint: np.ndarray


def prepare(image: Image) -> Prepared:
    """Render, letterbox to 224 x 224 and fingerprint. Raises ImageError where no pixel is a number."""
    square, place = letterbox(render(image))
    return Prepared(square, place, fingerprint(square))
