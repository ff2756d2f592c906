"""DICOM files that begin where they should not, elements that cannot be read, and objects that are no pictures."""

import numpy as np
import pytest

from medlike.errors import ImageError
from medlike.imaging import discover, load, read

RAMP = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40)
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"


def one(path):
    (image,) = read(path)
    return image


@pytest.mark.parametrize("stray", [b"\n", b"\0", b"\xef\xbb\xbf", bytes(200)])
def test_stray_bytes_before_the_preamble(write_dicom, stray):
    path = write_dicom("a.dcm", RAMP, PatientID="MRN-4711")
    path.write_bytes(stray + path.read_bytes())
    image = one(path)
    np.testing.assert_array_equal(image.pixels, RAMP)
    assert image.identifiers["patient_id"] == "MRN-4711"
    assert [len(list(load(source))) for source in discover([path.parent])] == [1]


@pytest.mark.parametrize("missing", [1, 100, 128])
def test_a_preamble_that_is_too_short(write_dicom, missing):
    path = write_dicom("a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[missing:])
    np.testing.assert_array_equal(one(path).pixels, RAMP)


@pytest.mark.parametrize(
    ("written", "damaged"),
    [
        (b"\x20\x00\x13\x00IS\x02\x007 ", b"\x20\x00\x13\x00IS\x02\x001A"),  # a value that IS does not allow
        (b"\x20\x00\x13\x00IS", b"\x20\x00\x13\x001A"),  # a value representation that does not exist
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00??"),
        (b"\x10\x00\x20\x00LO", b"\x10\x00\x20\x00ZZ"),
        (b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ"),
        (b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00ZZ"),
        (b"\x28\x00\x04\x00CS", b"\x28\x00\x04\x00FD"),  # 12 bytes are no whole number of doubles
    ],
)
def test_elements_that_cannot_be_read_do_not_stand_in_the_way(write_dicom, written, damaged):
    path = write_dicom("a.dcm", RAMP, InstanceNumber=7, PatientID="MRN-4711", Modality="CT")
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, damaged))
    image = one(path)
    np.testing.assert_array_equal(image.pixels, RAMP)
    assert image.metadata["modality"] == "CT"
    # What was written stays known, so that it can be taken out of texts.
    assert image.identifiers["patient_id"] == "MRN-4711"
    assert image.identifiers["instance_number"] == ("1A" if damaged.endswith(b"1A") and b"IS" in damaged else "7")


@pytest.mark.parametrize(
    ("keyword", "written", "damaged"),
    [
        ("NumberOfFrames", b"\x28\x00\x08\x00IS\x02\x001 ", b"\x28\x00\x08\x00IS\x02\x001A"),
        ("BitsAllocated", b"\x28\x00\x00\x01US\x02\x00", b"\x28\x00\x00\x01IS\x02\x00"),
    ],
)
def test_elements_that_pixels_need_are_named(write_dicom, keyword, written, damaged):
    path = write_dicom("a.dcm", RAMP, NumberOfFrames=1)
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, damaged))
    with pytest.raises(ImageError, match=keyword):
        list(read(path))


@pytest.mark.parametrize("storage", [SEGMENTATION, LABEL_MAP])
def test_segmentations_are_no_pictures_unless_asked_for(write_dicom, storage):
    path = write_dicom("a.dcm", RAMP, SOPClassUID=storage)
    (source,) = discover([path])
    with pytest.raises(ImageError, match=r"it is a segmentation, not a picture; .* --segmentations"):
        list(load(source))
    (source,) = discover([path], segmentations=True)
    (image,) = load(source)
    np.testing.assert_array_equal(image.pixels, RAMP)
    # A file that is named by itself is asked for.
    np.testing.assert_array_equal(one(path).pixels, RAMP)
    with pytest.raises(ImageError, match="segmentation"):
        list(read(path, segmentations=False))
