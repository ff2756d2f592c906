"""Raster files into images: PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, JPEG 2000."""

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging.arrays import kept_type, pillow_pixels
from medlike.imaging.image import Image, Photometry
from medlike.imaging.limits import MAX_PIXELS, check_size
from medlike.imaging.silence import reason, silence

#: Only these of Pillow's readers are used: some of the others start programs (EPS) or are rarely looked
#: after.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000")

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _RGB = 0, 2


def read_raster(path: Path, choose) -> Iterator[Image]:
    """The pages of a raster file as images, upright by EXIF orientation, transparency laid over black.

    choose: page count to the 0-based pages wanted, ascending. Grey of 8 and 16 bits and floats are kept as
    they are; equal colour channels become grey. Raises ImageError with the reason.
    """
    if _is_tiff(path):
        _hush_libtiff()
    with silence():
        try:
            picture: Any = PillowImage.open(path, formats=FORMATS)
        except OSError as error:
            if _is_tiff(path):
                picture = None
            else:
                raise _refusal(path, error) from None
        except Exception as error:
            raise _refusal(path, error) from None
    if picture is None or _beyond_pillow(picture):
        if picture is not None:
            picture.close()
        yield from _read_tiff(path, choose)
        return
    with picture:
        with silence():
            try:
                # A multi-picture JPEG (MPO) holds previews of one photograph, not frames.
                frames = 1 if picture.format == "MPO" else int(getattr(picture, "n_frames", 1))
            except Exception as error:
                raise _refusal(path, error) from None
        for frame in choose(frames):
            with silence():
                try:
                    if frames > 1:
                        picture.seek(frame)
                    check_size(picture.height, picture.width)
                    pixels = pillow_pixels(picture)
                    inverted = _white_is_zero(picture) and pixels.dtype != np.uint8
                except ImageError:
                    raise
                except Exception as error:
                    raise _refusal(path, error) from None
            yield _image(pixels, path, frame, frames, inverted)


@cache
def _hush_libtiff() -> None:
    """Stop Pillow's libtiff from printing on stderr, once.

    It reports damage both there, past Python, and as the exception that becomes the refusal. Pillow offers no switch;
    the library inside its wheel has one. Where it is not found, the lines are printed, and nothing else changes.
    """
    package = Path(PillowImage.__file__).parent
    for folder in (package.parent / "pillow.libs", package / ".dylibs"):
        for library in folder.glob("libtiff*"):
            with suppress(OSError, AttributeError):
                set_handler = ctypes.CDLL(str(library)).TIFFSetErrorHandler
                set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                set_handler(None)


def _image(pixels: np.ndarray, path: Path, frame: int, frames: int, inverted: bool) -> Image:
    photometry = Photometry(bits=16 if pixels.dtype.itemsize == 2 else 8, inverted=inverted)
    facts = {"rows": int(pixels.shape[0]), "columns": int(pixels.shape[1])}
    return Image(pixels, photometry, frame=frame, frames=frames, metadata={**facts}, path=str(path))


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _beyond_pillow(picture: Any) -> bool:
    """TIFF kinds that Pillow narrows or refuses: colour of more than 8 bits, signed bytes, wide numbers."""
    if picture.format != "TIFF":
        return False
    tags = picture.tag_v2
    bits = max(_numbers(tags.get(_BITS_PER_SAMPLE, 1)))
    formats = _numbers(tags.get(_SAMPLE_FORMAT, 1))
    if tags.get(_PHOTOMETRIC) == _RGB:
        return bits > 8
    return (bits > 16 and not (bits == 32 and formats == (3,))) or (bits == 8 and 2 in formats)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (int(value),)


def _white_is_zero(picture: Any) -> bool:
    # Pillow turns 8-bit WhiteIsZero around by itself, and 16-bit not.
    return picture.format == "TIFF" and picture.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _read_tiff(path: Path, choose) -> Iterator[Image]:
    """TIFF through tifffile."""
    import tifffile

    with silence():
        try:
            file = tifffile.TiffFile(path)
        except Exception as error:
            raise _refusal(path, error) from None
    with file:
        frames = len(file.pages)
        if frames < 1:
            raise ImageError("the TIFF file has no pages")
        for frame in choose(frames):
            with silence():
                try:
                    page = file.pages[frame]
                    check_size(page.imagelength, page.imagewidth)
                    pixels = np.asarray(page.asarray())
                    if page.planarconfig == 2 and pixels.ndim == 3:
                        pixels = pixels.transpose(1, 2, 0)
                    if pixels.ndim == 3:
                        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
                    if pixels.ndim != 2 and pixels.ndim != 3:
                        raise ImageError(f"a page of shape {list(pixels.shape)} is no picture")
                    pixels = kept_type(pixels)
                    inverted = page.photometric == _WHITE_IS_ZERO
                except ImageError:
                    raise
                except Exception as error:
                    raise _refusal(path, error) from None
            yield _image(pixels, path, frame, frames, inverted)


def _refusal(path: Path, error: Exception) -> Exception:
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return error
    if isinstance(error, PillowImage.DecompressionBombError):
        size = next(iter(re.findall(r"\d+", str(error))), "too many")
        return ImageError(f"the picture has {size} pixels; the limit is {MAX_PIXELS}: scale it down first")
    if isinstance(error, PillowImage.UnidentifiedImageError):
        return ImageError(f"its first bytes look like a {path.suffix or 'picture'} file, the rest does not")
    return ImageError(f"it cannot be decoded: {reason(error)}")
