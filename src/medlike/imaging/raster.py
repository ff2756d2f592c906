"""Turn raster files into images: PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, JPEG 2000."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging.arrays import grey_if_equal, holding_bits, kept_type, pillow_pixels, sample_bits
from medlike.imaging.image import Image, Photometry, Value
from medlike.imaging.jpeg2000 import jpeg2000_pixels
from medlike.imaging.limits import MAX_PIXELS, check_size
from medlike.imaging.png import png_pixels
from medlike.imaging.pnm import pnm_pixels
from medlike.imaging.signatures import JPEG_2000, TIFF
from medlike.imaging.silence import reason, silence
from medlike.imaging.tiff import tiff_pages, upright
from medlike.types import JsonObject

#: Only these of Pillow's readers are used: some of the others start programs (EPS) or are rarely looked
#: after.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000")

_ORIENTATION = 274


def read_raster(path: Path, choose) -> Iterator[Image]:
    """Yield the pages of a raster file as images: stored values, upright, transparency laid over black.

    Args:
        path: the file.
        choose: function from page count to the 0-based pages wanted, ascending.

    Yields:
        Grey of 8 and 16 bits and floats as they are stored; colour as RGB; equal colour channels as grey.

    Raises:
        ImageError: with the reason; pages before the fault have been given by then.
    """
    with path.open("rb") as file:
        start = file.read(64)
    try:
        if start.startswith(TIFF):
            for page, frame, frames in tiff_pages(path, choose):
                yield _image(page.pixels, path, frame, frames, page.inverted, page.transparent)
            return
        with silence():
            whole = _stored_values(path, start)
        if whole is None:
            yield from _by_pillow(path, start, choose)
        else:
            for frame in choose(1):
                yield _image(whole[0], path, frame, 1, **whole[1])
    except ImageError:
        raise
    except Exception as error:
        raise _refusal(error) from None


def _stored_values(path: Path, start: bytes) -> tuple[np.ndarray, JsonObject] | None:
    """Return pixels and photometry of a kind whose values Pillow scales, None for the others."""
    if start[:1] == b"P" and start[1:2].isdigit():
        values = pnm_pixels(path)
        if values is None:
            return None
        pixels, white = values
        # A maxval up to 255 is a picture's white; above, it is often no more than the size of the type.
        return pixels, {"bits": white.bit_length()} if white > 255 else {"scale": (0.0, float(white))}
    if start.startswith(JPEG_2000):
        samples = jpeg2000_pixels(path)
        return samples and (samples[0], {"bits": samples[1], "transparent": samples[2]})
    return None


def _by_pillow(path: Path, start: bytes, choose) -> Iterator[Image]:
    with silence():
        picture = PillowImage.open(path, formats=FORMATS)
    with picture:
        with silence():
            # A multi-picture JPEG (MPO) holds previews of one photograph, not frames.
            frames = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
        for frame in choose(frames):
            with silence():
                if frames > 1:
                    picture.seek(frame)
                check_size(picture.height, picture.width)
                stored = png_pixels(path, picture, start) if picture.format == "PNG" else None
                if stored is None:
                    pixels, transparent = pillow_pixels(picture), False
                else:
                    pixels, transparent = stored
                    pixels = upright(pixels, int(picture.getexif().get(_ORIENTATION, 1)))
            yield _image(pixels, path, frame, frames, transparent=transparent)


def _image(
    pixels: np.ndarray,
    path: Path,
    frame: int,
    frames: int,
    inverted: bool = False,
    transparent: bool = False,
    bits: int = 16,
    scale: tuple[float, float] | None = None,
) -> Image:
    """Make an image from pixels. bits: of a sample, if the file declares fewer than its type has.

    A picture that is partly transparent was drawn, not scanned: no percentile stretches it.
    """
    pixels = kept_type(grey_if_equal(pixels) if pixels.ndim == 3 else pixels)
    bits = bits if bits < 16 else sample_bits(pixels)
    if transparent and pixels.dtype == np.uint16:
        scale = (0.0, float(2 ** holding_bits(pixels) - 1))
    facts: dict[str, Value] = {"rows": int(pixels.shape[0]), "columns": int(pixels.shape[1])}
    photometry = Photometry(bits=bits, inverted=inverted, scale=scale)
    return Image(pixels, photometry, frame=frame, frames=frames, metadata=facts, path=str(path))


def _refusal(error: Exception) -> Exception:
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return error
    if isinstance(error, PillowImage.DecompressionBombError):
        size = next(iter(re.findall(r"\d+", str(error))), "too many")
        return ImageError(f"the picture has {size} pixels; the limit is {MAX_PIXELS}: scale it down first")
    if isinstance(error, PillowImage.UnidentifiedImageError):
        return ImageError("its first bytes look like a picture, the rest does not")
    return ImageError(f"it cannot be decoded: {reason(error)}")
