"""The same picture as DICOM, PNG and JPEG gets nearly the same code."""

import numpy as np
import pytest
from PIL import Image

from medlike.bundle import Bundle
from medlike.errors import ImageError
from medlike.imaging import prepare, read, render
from medlike.inference import Encoder


def differing_bits(encoder, files, folder):
    """Bits that differ between each DICOM and its PNG, and its JPEG: int [N, 2]."""
    rows = []
    for file in files:
        try:
            image = next(iter(read(file)))
        except ImageError:
            continue
        grey = Image.fromarray(render(image))
        grey.save(folder / "a.png")
        grey.save(folder / "a.jpg", quality=90)
        same = [image, *(next(iter(read(folder / name))) for name in ("a.png", "a.jpg"))]
        bits = np.unpackbits(encoder.encode([prepare(one) for one in same]).code, axis=1)
        rows.append([int((bits[0] != bits[1]).sum()), int((bits[0] != bits[2]).sum())])
    return np.array(rows)


@pytest.mark.collections
def test_png_and_jpeg_of_a_dicom_are_at_most_two_bits_away_in_the_median(collections, tmp_path):
    files = sorted((collections / "dicom").glob("*.dcm"))[::4]
    with Encoder(Bundle.load("medlike-itq-64")) as encoder:
        found = differing_bits(encoder, files, tmp_path)
    assert len(found) > 15
    assert (np.median(found, axis=0) <= 2).all()


def test_the_same_for_files_that_pydicom_brings(tmp_path):
    from pydicom.data import get_testdata_file

    names = ("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm")
    files = [get_testdata_file(name, download=False) for name in names]
    with Encoder(Bundle.load("medlike-itq-64")) as encoder:
        found = differing_bits(encoder, [file for file in files if file], tmp_path)
    assert len(found) >= 2
    assert (found <= 4).all()
