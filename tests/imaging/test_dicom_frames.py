"""Encapsulated frames: offset tables that are wrong, frames in several items, and items that say nothing."""

import struct

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import JPEG2000Lossless, RLELossless

from medlike.errors import ImageError
from medlike.imaging import read
from medlike.imaging.dicom_frames import frame_bytes, frame_spans

STACK = np.stack([(np.arange(40 * 36) * (k + 1) % 4096).reshape(40, 36) for k in range(4)]).astype(np.uint16)
FRAMES = [encode_array(pixels) for pixels in STACK]


def item(data: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data


def items(parts: list[bytes], table: list[int] | None = None) -> bytes:
    return item(struct.pack(f"<{len(table or [])}I", *(table or []))) + b"".join(map(item, parts))


def even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)


def halves(frame: bytes) -> list[bytes]:
    middle = len(frame) // 4 * 2
    return [frame[:middle], even(frame[middle:])]


@pytest.fixture
def write(write_dicom):
    def write(data, **elements):
        path = write_dicom("a.dcm", STACK)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
        dataset.PixelData = data
        dataset["PixelData"].is_undefined_length = True
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        return path

    return write


def check(path):
    images = list(read(path, frames="all"))
    np.testing.assert_array_equal(np.stack([image.pixels for image in images]), STACK)
    assert [image.frame for image in read(path)] == [2]


def right_table(parts: list[list[bytes]]) -> list[int]:
    sizes = [sum(8 + len(part) for part in frame) for frame in parts]
    return [sum(sizes[:k]) for k in range(len(sizes))]


@pytest.mark.parametrize("broken", [False, True], ids=["one item a frame", "two items a frame"])
@pytest.mark.parametrize("table", ["right", "none", "zeros", "beside", "short", "backwards"])
def test_basic_offset_table(write, table, broken):
    parts = [halves(frame) if broken else [even(frame)] for frame in FRAMES]
    right = right_table(parts)
    tables = {
        "right": right,
        "none": [],
        "zeros": [0] * 4,
        "beside": [offset + 6 for offset in right],
        "short": right[:3],
        "backwards": right[::-1],
    }
    check(write(items([part for frame in parts for part in frame], tables[table])))


@pytest.mark.parametrize("wrong", [0, 6])
def test_extended_offset_table(write, wrong):
    data, offsets, lengths = encapsulate_extended(FRAMES)
    shifted = struct.pack("<4Q", *(offset + wrong for offset in struct.unpack("<4Q", offsets)))
    check(write(data, ExtendedOffsetTable=shifted, ExtendedOffsetTableLengths=lengths))
    check(write(data, ExtendedOffsetTable=b"\0" * 32, ExtendedOffsetTableLengths=b"\0" * 32))


def test_a_table_that_names_the_middle_of_a_frame_is_wrong():
    parts = [part for frame in FRAMES for part in halves(frame)]
    starts = right_table([[part] for part in parts])
    data = items(parts, [starts[0], starts[1], starts[2], starts[4]])
    assert [frame_bytes(data, spans) for spans in frame_spans(data, 4)] == [even(frame) for frame in FRAMES]


def test_a_single_frame_has_all_items(write):
    path = write(items(halves(FRAMES[0])), NumberOfFrames=1)
    np.testing.assert_array_equal(next(read(path)).pixels, STACK[0])


def test_codestreams_that_the_header_does_not_count(write):
    path = write(encapsulate(FRAMES), NumberOfFrames=1)
    np.testing.assert_array_equal(next(read(path)).pixels, STACK[0])


def test_frames_that_are_not_there(write):
    path = write(encapsulate(FRAMES[:2]))
    given = []
    with pytest.raises(ImageError, match="frame 2 is not there: the header says 4 frames, the pixel data has 2"):
        for image in read(path, frames="all"):
            given.append(image.pixels)
    np.testing.assert_array_equal(np.stack(given), STACK[:2])


def test_several_frames_in_one_item(write):
    jpegs = b"\xff\xd8\xff\xd9" * 2
    with pytest.raises(ImageError, match="has several"):
        list(read(write(items([jpegs, jpegs])), frames="all"))


def test_run_lengths_in_several_items(write_dicom):
    """RLE frames have no mark at which they begin: without a table that is right they cannot be told apart."""
    path = write_dicom("a.dcm", STACK)
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=4))
    # As many items as frames need no table, whatever it says.
    for table in ([0, 0, 0, 0], [0, 6, 12, 18], [7, 5, 3, 1]):
        dataset.PixelData = items([even(frame) for frame in frames], table)
        dataset.save_as(path)
        check(path)
    parts = [halves(frame) for frame in frames]
    flat = [part for frame in parts for part in frame]
    dataset.PixelData = items(flat, right_table(parts))
    dataset.save_as(path)
    check(path)
    dataset.PixelData = items(flat, [0, 0, 0, 0])
    dataset.save_as(path)
    with pytest.raises(ImageError, match="4 frames, the pixel data has 8 items"):
        list(read(path))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no item"),
        (items([]), "no item"),
        (b"junk" * 4, "damaged at byte 0"),
        (items([b"abcd"]) + b"junk" * 3, "damaged at byte"),
        (items([b"abcd"])[:-2], "truncated"),
    ],
)
def test_damaged_items(data, reason):
    with pytest.raises(ImageError, match=reason):
        frame_spans(data, 1)
