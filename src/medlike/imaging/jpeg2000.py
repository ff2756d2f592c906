"""JPEG 2000 files of more than 8 bits as stored: Pillow scales their values to 8 or 16 bits."""

import math
from pathlib import Path

import numpy as np

from medlike.errors import ImageError
from medlike.imaging.arrays import over_black
from medlike.imaging.codestream import Codestream, read_codestream
from medlike.imaging.limits import DECODED_JPEG_2000, check_size
from medlike.imaging.page import Page

#: Colour spaces whose samples are grey or RGB as they are.
_AS_STORED = ("unknown", "unspecified", "sRGB", "monochrome")


def jpeg2000_page(path: Path) -> Page | None:
    """Return the picture of a JP2 file or codestream; None up to 8 bits unsigned, which Pillow keeps.

    Returns:
        Integers of 1 .. 38 bits (ISO 15444-1 A.5.1).

    Raises:
        ImageError: for colour spaces that are neither grey nor RGB. What the decoder raises for damage.
    """
    from openjpeg import decode, get_parameters

    facts = get_parameters(path)
    bits, samples = int(facts["precision"]), int(facts["samples_per_pixel"])
    if bits <= 8 and not facts["is_signed"]:
        return None
    check_size(int(facts["rows"]), int(facts["columns"]), samples * DECODED_JPEG_2000)
    space = str(facts["colourspace"])
    if samples > 4 or (samples > 2 and space not in _AS_STORED):
        raise ImageError(f"JPEG 2000 of {samples} components of {bits} bits in {space} is not read: save it as sRGB")
    data = path.read_bytes()
    pixels = without_offset(decode(data), read_codestream(data))
    if samples not in (2, 4):
        return Page(pixels, bits=bits)
    # What comes after grey or RGB is alpha.
    full = 2**bits - 1
    flat = over_black(pixels, full)
    transparent = bool((pixels[..., -1] < full).any())
    return Page(flat[..., 0] if samples == 2 else flat, transparent=transparent, bits=bits)


def without_offset(samples: np.ndarray, codestream: Codestream) -> np.ndarray:
    """Return the samples of a JPEG 2000 codestream in the shape of its image area.

    An image area may begin beside the origin of its reference grid (ISO 15444-1 B.2). openjpeg's Python package then
    gives an array of the whole grid, of which only the beginning is filled, row after row of the image area: sheared.

    Args:
        samples: what the package decodes, [H, W] or [H, W, C].
        codestream: the header of the codestream.

    Raises:
        ImageError: fewer samples than the codestream says.
    """
    shape = (codestream.height, codestream.width, *samples.shape[2:])
    count = math.prod(shape)
    if samples.size < count:
        raise ImageError(f"the codestream says {shape[1]} x {shape[0]}, {samples.size} samples are decoded")
    return samples if samples.shape == shape else samples.reshape(-1)[:count].reshape(shape)
