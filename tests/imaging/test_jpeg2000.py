"""A JPEG 2000 image area that begins beside the origin of its grid is read as Pillow reads it, not sheared."""

import io
import struct

import numpy as np
import pytest
from PIL import Image as PillowImage
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from medlike.errors import ImageError
from medlike.imaging import read
from medlike.imaging.codestream import read_codestream
from medlike.imaging.jpeg2000 import without_offset

ROWS, COLUMNS = 40, 50


def codestream(pixels, **how):
    out = io.BytesIO()
    how = {"tile_size": (32, 16), "offset": (5, 3), "num_resolutions": 2, **how}
    PillowImage.fromarray(pixels).save(out, "JPEG2000", no_jp2=True, **how)
    return out.getvalue()


@pytest.mark.parametrize("colour", [False, True])
def test_dicom(write_dicom, colour):
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, COLUMNS, 3) if colour else (ROWS, COLUMNS), np.uint8)
    path = write_dicom("a.dcm", pixels, colour, JPEG2000Lossless, PixelData=encapsulate([codestream(pixels, mct=0)]))
    np.testing.assert_array_equal(next(read(path)).pixels, pixels)


def test_raster_of_16_bits(tmp_path):
    pixels = np.full((ROWS, COLUMNS), 1000, np.uint16)
    pixels[:, 20:30] = 40000
    path = tmp_path / "a.jp2"
    path.write_bytes(codestream(pixels, tile_size=(128, 128)))
    np.testing.assert_array_equal(next(read(path)).pixels, pixels)


@pytest.mark.parametrize("long", [False, True])
def test_boxes_of_any_size_may_stand_before_the_codestream(tmp_path, long):
    """A colour profile is often longer than 4096 bytes, and may hold the bytes that begin a codestream."""
    pixels = np.random.default_rng(1).integers(0, 65536, (ROWS, COLUMNS), np.uint16)
    out = io.BytesIO()
    PillowImage.fromarray(pixels).save(out, "JPEG2000", num_resolutions=2)
    content, note = b"\xff\x4f\xff\x51" * 2500, out.getvalue()
    place = note.index(b"jp2c") - 4
    length = len(content)
    size = struct.pack(">I4sQ", 1, b"xml ", 16 + length) if long else struct.pack(">I4s", 8 + length, b"xml ")
    path = tmp_path / "a.jp2"
    path.write_bytes(note[:place] + size + content + note[place:])
    np.testing.assert_array_equal(next(read(path)).pixels, pixels)


def test_too_few_samples():
    stream = read_codestream(codestream(np.zeros((ROWS, COLUMNS), np.uint8)))
    with pytest.raises(ImageError, match="50 x 40"):
        without_offset(np.zeros((3, 3), np.uint8), stream)
