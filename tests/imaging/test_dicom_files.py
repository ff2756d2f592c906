"""Every DICOM file at hand is decoded as pydicom decodes it, or refused with a reason."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medlike.errors import ImageError
from medlike.imaging import prepare, read

#: Bundled with pydicom, with pixels, and yet refused: the word that the reason must have.
REFUSED = {
    "MR_truncated.dcm": "truncated",
    "badVR.dcm": "NumberOfFrames",
    "JPEG2000-embedded-sequence-delimiter.dcm": "limit",
    "liver_rle.dcm": "RLE",
    "liver_nonbyte_aligned_rle.dcm": "RLE",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "truncated",
}

#: Pixels that pydicom 3.0 cannot decode and medlike does (each frame deflated on its own).
BEYOND_PYDICOM = {
    "liver_deflate.dcm": "liver.dcm",
    "liver_nonbyte_aligned_deflate.dcm": "liver_nonbyte_aligned.dcm",
}

SPECTRAL_SELECTION = b"\xff\xda\x00\x08\x01\x01\x00\x00"


def reference(path: Path) -> np.ndarray | None:
    """pydicom's own pixels, [frames, H, W (, 3)], or None where it has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # JPEG-lossy.dcm has the scan header of a sequential process with a spectral selection of 0 .. 0.
            content = path.read_bytes()
            if path.name == "JPEG-lossy.dcm":
                content = content.replace(SPECTRAL_SELECTION + b"\0\0", SPECTRAL_SELECTION + b"\x3f\0")
            dataset = pydicom.dcmread(BytesIO(content), force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:
                implicit, little = dataset.original_encoding
                explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
            pixels = dataset.pixel_array
        except Exception:
            return None
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, little_endian(dataset))
    return pixels if int(dataset.get("NumberOfFrames") or 1) > 1 else pixels[None]


def little_endian(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """The palette of a big-endian file, whose plain tables pydicom reads as little-endian all the same."""
    if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        for colour in ("Red", "Green", "Blue"):
            name = f"{colour}PaletteColorLookupTableData"
            if name in dataset:
                dataset[name].value = np.frombuffer(dataset[name].value, ">u2").astype("<u2").tobytes()
    return dataset


def check(path: Path) -> None:
    expected = reference(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            images = list(read(path, frames="all"))
        except ImageError as refusal:
            assert str(refusal).strip()
            assert path.name not in BEYOND_PYDICOM, refusal
            if expected is not None or path.name in REFUSED:
                assert REFUSED.get(path.name, "!") in str(refusal), refusal
            return
    assert path.name not in REFUSED
    if path.name in BEYOND_PYDICOM:
        expected = reference(path.with_name(BEYOND_PYDICOM[path.name]))
    assert expected is not None, "decoded, though pydicom has no pixels for it"
    assert [image.frame for image in images] == list(range(len(expected)))
    for image, frame in zip(images, expected, strict=True):
        assert image.frames == len(expected)
        kept = frame.astype(np.float32) if frame.dtype.itemsize > 2 else frame
        assert image.pixels.dtype == kept.dtype.newbyteorder("=")
        assert image.pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32)
        np.testing.assert_array_equal(image.pixels, kept)
        prepared = prepare(image)
        assert prepared.pixels.shape == (224, 224)
        assert prepared.pixels.dtype == np.uint8
        assert prepared.pixels.max() > prepared.pixels.min()


def test_bundled_file(bundled):
    check(bundled)


@pytest.mark.collections
def test_collected_file(collected):
    check(collected)


def test_quiet(bundled, capfd):
    """Neither Python nor the decoders below it write to the user's screen."""
    try:
        list(read(bundled))
    except ImageError as refusal:
        assert "\n" not in str(refusal)
    assert capfd.readouterr() == ("", "")
