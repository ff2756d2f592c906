"""PGM and PPM files as stored: Pillow scales the values of every other maxval to 8 or 16 bits."""

import re
from pathlib import Path

import numpy as np

from medlike.errors import ImageError
from medlike.imaging.limits import DECODED, check_size
from medlike.imaging.page import Page

_COMMENT = rb"(?:\s|#[^\r\n]*[\r\n])"
#: The longest header, with its comments, and the longest number of a plain file, with what parts it from the next.
_HEADER_BYTES, _PLAIN_BYTES = 1 << 16, 32

#: Magic number, width, height, maxval. Source: netpbm, ppm(5) and pgm(5).
_HEADER = re.compile(rb"P([2356])" + (_COMMENT + rb"+(\d{1,9})") * 3 + rb"(?:#[^\r\n]*[\r\n])?\s?")


def pnm_page(path: Path) -> Page | None:
    """Return the first picture of a PGM or PPM file, uint8 or uint16, on its scale; None for bitmaps (P1, P4).

    Raises:
        ImageError: if header and data make no picture.
    """
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if start[1:2] in b"14":
        return None
    header = _HEADER.match(start)
    if header is None:
        raise ImageError("the PNM header is damaged")
    kind, width, height, white = (int(one) for one in header.groups())
    # Plain numbers become Python's own before they become an array.
    check_size(height, width, (3 if kind in (3, 6) else 1) * (128 if kind in (2, 3) else DECODED))
    if not 1 <= white <= 65535:
        raise ImageError(f"the PNM header says a maxval of {white}: 1 .. 65535 are read")
    samples = 3 if kind in (3, 6) else 1
    count = width * height * samples
    stored = np.dtype(np.uint8 if white < 256 else ">u2")
    with path.open("rb") as file:
        file.seek(header.end())
        # No more than the header says: files of several pictures, and of anything else, may be long.
        data = file.read(count * (_PLAIN_BYTES if kind in (2, 3) else stored.itemsize))
    if kind in (2, 3):
        values = _plain(data, count)
    else:
        values = np.frombuffer(data, stored, len(data) // stored.itemsize)
    if len(values) < count:
        raise ImageError(f"the PNM header says {width} x {height}, {count} samples; the file has {len(values)}")
    if int(values.max()) > white:
        raise ImageError(f"a sample is {int(values.max())}; the PNM header says a maxval of {white}")
    shape = (height, width) if samples == 1 else (height, width, samples)
    pixels = values.reshape(shape).astype(stored.newbyteorder("="))
    # A maxval up to 255 is a picture's white; above, it is often no more than the size of the type.
    return Page(pixels, bits=white.bit_length()) if white > 255 else Page(pixels, scale=(0.0, float(white)))


def _plain(text: bytes, count: int) -> np.ndarray:
    """Return the first `count` decimal numbers of a text, int64."""
    words = re.sub(rb"#[^\r\n]*", b"", text).split(maxsplit=count)[:count]
    if not all(word.isdigit() and len(word) < 10 for word in words):
        raise ImageError("the PNM file holds a sample that is no number")
    return np.asarray([int(word) for word in words], np.int64)
