"""Turn raster files into images: PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, JPEG 2000."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging.arrays import grey_if_equal, holding_bits, kept_type, pillow_pixels, sample_bits
from medlike.imaging.frames import Choice
from medlike.imaging.image import Image, Photometry, Value
from medlike.imaging.jpeg2000 import jpeg2000_page
from medlike.imaging.limits import CONVERTED, DECODED, DECODED_JPEG_2000, MAX_PIXELS, check_size
from medlike.imaging.page import Page
from medlike.imaging.png import png_page
from medlike.imaging.pnm import pnm_page
from medlike.imaging.signatures import JPEG_2000, TIFF
from medlike.imaging.silence import reason, silence
from medlike.imaging.tiff import tiff_pages, upright

#: Only these of Pillow's readers are used: some of the others start programs (EPS) or are rarely looked
#: after.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000")

_ORIENTATION = 274


def read_raster(path: Path, choose: Choice) -> Iterator[Image]:
    """Yield the pages of a raster file as images: stored values, upright, transparency laid over black.

    Args:
        path: the file.
        choose: which pages to read.

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
                yield _image(page, path, frame, frames)
            return
        with silence():
            whole = _stored_values(path, start)
        if whole is None:
            yield from _by_pillow(path, start, choose)
        else:
            for frame in choose(1):
                yield _image(whole, path, frame, 1)
    except ImageError:
        raise
    except Exception as error:
        raise _refusal(error) from None


def _stored_values(path: Path, start: bytes) -> Page | None:
    """Return the page of a kind whose values Pillow scales, None for the others."""
    if start[:1] == b"P" and start[1:2].isdigit():
        return pnm_page(path)
    return jpeg2000_page(path) if start.startswith(JPEG_2000) else None


def _by_pillow(path: Path, start: bytes, choose: Choice) -> Iterator[Image]:
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
                check_size(picture.height, picture.width, _pixel_bytes(picture))
                page = png_page(path, picture, start) if picture.format == "PNG" else None
                if page is None:
                    page = Page(pillow_pixels(picture))
                else:
                    page = page._replace(pixels=upright(page.pixels, int(picture.getexif().get(_ORIENTATION, 1))))
            yield _image(page, path, frame, frames)


def _pixel_bytes(picture: PillowImage.Image) -> float:
    """Return the memory that decoding takes for a pixel."""
    if picture.format in ("JPEG2000", "WEBP"):
        return len(picture.getbands()) * (DECODED_JPEG_2000 if picture.format == "JPEG2000" else CONVERTED)
    if picture.mode == "1":
        return 4  # no colour and no alpha to compare
    # Palettes and transparency become RGBA; Pillow keeps samples of 32 bits where a file has 16.
    samples = 4 if picture.mode == "P" or "transparency" in picture.info else len(picture.getbands())
    return samples * DECODED * (2 if picture.mode.startswith(("I", "F")) else 1)


def _image(page: Page, path: Path, frame: int, frames: int) -> Image:
    """Make an image from a page. One that is partly transparent was drawn, not scanned: no percentile stretches it."""
    pixels = kept_type(grey_if_equal(page.pixels) if page.pixels.ndim == 3 else page.pixels)
    bits = page.bits if page.bits < 16 else sample_bits(pixels)
    scale = page.scale
    if page.transparent and pixels.dtype == np.uint16:
        scale = (0.0, float(2 ** holding_bits(pixels) - 1))
    facts: dict[str, Value] = {"rows": int(pixels.shape[0]), "columns": int(pixels.shape[1])}
    photometry = Photometry(bits=bits, inverted=page.inverted, scale=scale)
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
