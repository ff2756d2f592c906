"""Convert three components to RGB. The codestream decides what they are, then the header."""

import numpy as np

from medlike.errors import ImageError
from medlike.imaging.codestream import Codestream, Colour

_HEADER: dict[str, Colour] = {"RGB": "RGB", "YBR_FULL": "YCC", "YBR_FULL_422": "YCC"}
_TRANSFORMED = ("YBR_RCT", "YBR_ICT")

#: YCbCr of the full range into RGB (PS3.3 C.7.6.3.1.2; ITU-R BT.601).
_TO_RGB = np.array([[1, 1, 1], [0, -0.114 * 1.772 / 0.587, 1.772], [1.402, -0.299 * 1.402 / 0.587, 0]], np.float32)


def colour_of(codestream: Codestream | None, interpretation: str) -> Colour:
    """Return what three components are.

    What the codestream says holds, whatever the header says (PS3.5 8.2.1, 8.2.4). Where it says nothing, or
    contradicts itself, the header decides. YBR_RCT and YBR_ICT are transforms inside JPEG 2000: of a codestream
    without one they say that its components are RGB.

    Args:
        codestream: the header of the compressed frame, None for uncompressed and RLE frames.
        interpretation: Photometric Interpretation.

    Raises:
        ImageError: neither of them says it.
    """
    if codestream is not None and codestream.colour is not None:
        return codestream.colour
    if interpretation in _HEADER:
        return _HEADER[interpretation]
    if interpretation in _TRANSFORMED and codestream is not None and codestream.coding == "JPEG 2000":
        return "RGB"
    raise ImageError(
        f"the photometric interpretation of its 3 components is {interpretation or 'absent'}, which is not read: "
        f"{', '.join((*_HEADER, *_TRANSFORMED))} are"
    )


def to_rgb(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return YCbCr of the full range as RGB, rounded half up and clipped.

    Args:
        pixels: unsigned integers [H, W, 3], 0 .. 2**bits - 1; chroma is centred on 2**(bits - 1).
        bits: stored bits of a sample, 16 at most.

    Returns:
        [H, W, 3] of the same type.

    Source: PS3.3 C.7.6.3.1.2, ISO/IEC 10918-5 section 7.
    """
    half = 2.0 ** (bits - 1)
    work = pixels.astype(np.float32)
    work -= np.array([0, half, half], np.float32)
    work = work @ _TO_RGB
    work += 0.5
    np.floor(work, out=work)
    np.clip(work, 0, 2 * half - 1, out=work)
    return work.astype(pixels.dtype)
