"""TIFF pages as they are stored, turned upright once.

Pillow decodes what it keeps whole, tifffile what Pillow would narrow or refuses. Neither turns the page: Pillow 13
shears uncompressed pages of orientation 5 to 8, and tifffile turns none. Pillow is given the file with every
orientation set to 1, and the page is turned here.
"""

from __future__ import annotations

import ctypes
import io
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageFile

from medlike.errors import ImageError
from medlike.imaging.arrays import over_black, pillow_pixels, wide_samples
from medlike.imaging.frames import Choice
from medlike.imaging.limits import DECODED, check_size
from medlike.imaging.page import Page
from medlike.imaging.silence import silence

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _SEPARATED = 0, 1, 2, 5
_ORIENTATION = 274
_ASSOCIATED, _UNASSOCIATED = 1, 2

#: Compressions that tifffile undoes by itself: none, deflate (two numbers), PackBits.
_BY_TIFFFILE = (1, 8, 32946, 32773)

#: Raw modes of Pillow for big-endian samples, and for those in the order of this machine.
_SWAPPED = {"I;16BS": "I;16NS", "F;32BF": "F;32NF"}


def tiff_pages(path: Path, choose: Choice) -> Iterator[tuple[Page, int, int]]:
    """Yield the pages of a TIFF file.

    Args:
        path: the file.
        choose: which pages to read.

    Yields:
        The page, upright; its place, 0-based; the number of pages.

    Raises:
        ImageError: for a page that is no picture or is not read. Whatever the decoders raise for damage.
    """
    import tifffile

    _hush_libtiff()
    with silence():
        file = tifffile.TiffFile(path)
    with file:
        with silence():
            count = len(file.pages)
        if count < 1:
            raise ImageError("the TIFF file has no pages")
        for index in choose(count):
            with silence():
                page = file.pages[index]
                if not isinstance(page, tifffile.TiffPage):
                    raise ImageError(f"page {index} has no tags of its own")
                # RGBA is the most that a picture needs; more samples count as more pixels.
                check_size(page.imagelength, page.imagewidth * max(1, page.samplesperpixel // 4))
                sample = max(int(page.bitspersample) // 8, 1) * DECODED
                check_size(page.imagelength, page.imagewidth, int(page.samplesperpixel) * sample)
                decoded = _page(path, file, page, index)
                turned = decoded._replace(pixels=upright(decoded.pixels, _orientation(page)))
            yield turned, index, count


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels [H, W, ...] turned so that row 0 is the top and column 0 the left.

    Args:
        pixels: as stored.
        orientation: 1 .. 8 (TIFF 6.0, Orientation); anything else is taken as 1.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _orientation(page: TiffPage) -> int:
    tag = page.tags.get(_ORIENTATION)
    value = None if tag is None else tag.value
    return int(value) if isinstance(value, int) else 1


def _page(path: Path, file: TiffFile, page: TiffPage, index: int) -> Page:
    """Read a page as stored, not rotated."""
    colours, samples = (3 if page.photometric == _RGB else 1), int(page.samplesperpixel)
    bits, kind = int(page.bitspersample), int(page.sampleformat)
    # Colour of more than 8 bits, signed bytes and wide numbers: Pillow narrows or misreads them. Colour that is
    # multiplied by its alpha: Pillow divides, which rounds.
    wide_grey = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and (
        (bits > 16 and not (bits == 32 and kind == 3)) or (bits == 8 and kind == 2)
    )
    multiplied = bits == 8 and tuple(page.extrasamples or ())[:1] == (_ASSOCIATED,)
    if wide_grey or (page.photometric == _RGB and (bits > 8 or multiplied)):
        if page.compression in _BY_TIFFFILE:
            return _by_tifffile(page, colours)
        raw_modes = {
            (3, 16): ("RGB;16L", "RGB;16B"),
            (4, 16): ("RGBA;16L", "RGBA;16B"),
            (4, 8): ("RGBA",),
        }.get((samples, bits))
        if colours == 1 or raw_modes is None or kind != 1 or page.planarconfig != 1:
            raise _not_read(page)
        return _flattened(wide_samples(lambda: _opened(path, file, index), *raw_modes), page, colours)
    if page.photometric == _SEPARATED and bits > 8:
        raise _not_read(page)  # Pillow narrows its inks to 8 bits
    try:
        with _opened(path, file, index) as picture:
            pixels = pillow_pixels(picture)
    except PillowImage.UnidentifiedImageError:
        if page.compression not in _BY_TIFFFILE:
            raise _not_read(page) from None
        return _by_tifffile(page, colours)
    # Pillow turns 8-bit WhiteIsZero around by itself, and others not.
    return Page(pixels, page.photometric == _WHITE_IS_ZERO and pixels.dtype != np.uint8)


def _opened(path: Path, file: TiffFile, index: int) -> ImageFile.ImageFile:
    """Open a page as a Pillow picture that no orientation rotates."""
    pages = [page.aspage() for page in file.pages]
    turned = [page.tags[_ORIENTATION] for page in pages if _orientation(page) != 1]
    source: Path | io.BytesIO = path
    if turned:
        source = io.BytesIO(path.read_bytes())
        for tag in turned:
            source.seek(tag.valueoffset)
            source.write((1).to_bytes(tag.valuebytecount, "little" if file.byteorder == "<" else "big"))
        source.seek(0)
    picture = PillowImage.open(source, formats=["TIFF"])
    if index:
        picture.seek(index)
    picture.tile = [_in_native_order(tile) for tile in picture.tile]
    return picture


def _in_native_order(tile: ImageFile._Tile) -> ImageFile._Tile:
    """Return a tile whose raw mode has the byte order of this machine, in which libtiff gives all samples.

    Pillow 13 sets it so for unsigned 16 bits alone: it reads signed and float samples of big-endian files as noise.
    """
    if tile.codec_name == "libtiff" and isinstance(tile.args, tuple) and tile.args[0] in _SWAPPED:
        return tile._replace(args=(_SWAPPED[tile.args[0]], *tile.args[1:]))
    return tile


def _by_tifffile(page: TiffPage, colours: int) -> Page:
    pixels = np.asarray(page.asarray())
    if page.planarconfig == 2 and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3):
        raise ImageError(f"a page of shape {list(pixels.shape)} is no picture")
    white = page.photometric == _WHITE_IS_ZERO
    if pixels.ndim == 2:
        return Page(pixels, white)
    if white and pixels.dtype.kind == "u":
        # Black is laid under it: of what is to be inverted, that is the highest value.
        pixels = pixels.copy()
        pixels[..., 0] = np.iinfo(pixels.dtype).max - pixels[..., 0]
        white = False
    return _flattened(pixels, page, colours)._replace(inverted=white)


def _flattened(pixels: np.ndarray, page: TiffPage, colours: int) -> Page:
    """Return samples [H, W, S] as [H, W] or [H, W, 3], over black by the first extra sample if that is alpha."""
    extra = tuple(int(one) for one in page.extrasamples or ())
    # Four samples of colour that say nothing of the fourth are read as RGBA everywhere.
    kind = extra[0] if extra else _UNASSOCIATED if (colours, pixels.shape[2]) == (3, 4) else 0
    transparent = False
    if kind in (_ASSOCIATED, _UNASSOCIATED) and pixels.shape[2] > colours:
        full = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        transparent = bool((pixels[..., colours] < full).any())
        if kind == _UNASSOCIATED:
            pixels = over_black(pixels[..., : colours + 1])
    # Associated alpha is laid over black already; other samples are no part of the picture.
    grey = colours == 1 or pixels.shape[2] < 3
    return Page(pixels[..., 0] if grey else pixels[..., :3], transparent=transparent)


def _not_read(page: TiffPage) -> ImageError:
    name = getattr(page.compression, "name", page.compression)
    return ImageError(
        f"TIFF of {page.samplesperpixel} x {page.bitspersample} bits with {name} compression is not read: "
        "save it without compression"
    )


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
