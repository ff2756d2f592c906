"""Files into images: reading, window/level, letterbox, fingerprints, rendering."""

from medlike.imaging.arrays import from_array, from_pil
from medlike.imaging.decoding import Decoding
from medlike.imaging.deidentification import deidentify, nameless, plain
from medlike.imaging.discovery import Source, discover, load
from medlike.imaging.fingerprints import fingerprint, perceptual_hash
from medlike.imaging.frames import Frames
from medlike.imaging.given import as_image
from medlike.imaging.image import Image, Lut, Photometry, Window
from medlike.imaging.letterbox import Letterbox, letterbox
from medlike.imaging.limits import MAX_PIXELS
from medlike.imaging.lossless import decode_pixels, encode_pixels
from medlike.imaging.preparation import Prepared, prepare
from medlike.imaging.reading import read
from medlike.imaging.rendering import Shading, lookup_table, preview, render, render_colour, scaled, shading

__all__ = [
    "MAX_PIXELS",
    "Decoding",
    "Frames",
    "Image",
    "Letterbox",
    "Lut",
    "Photometry",
    "Prepared",
    "Shading",
    "Source",
    "Window",
    "as_image",
    "decode_pixels",
    "deidentify",
    "discover",
    "encode_pixels",
    "fingerprint",
    "from_array",
    "from_pil",
    "letterbox",
    "load",
    "lookup_table",
    "nameless",
    "perceptual_hash",
    "plain",
    "prepare",
    "preview",
    "read",
    "render",
    "render_colour",
    "scaled",
    "shading",
]
