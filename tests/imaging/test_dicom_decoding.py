"""Compressed and native DICOM frames whose header and data disagree: the codestream decides, unused bits never show."""

import io
import struct
import subprocess

import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from PIL import Image as PillowImage
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSLossless,
    RLELossless,
)

from medlike.errors import ImageError
from medlike.imaging import read
from medlike.imaging.codestream import read_codestream
from medlike.imaging.dicom_samples import stored_values

ROW, COLUMN = np.mgrid[0:48, 0:64]
GREY = (ROW * 4 + COLUMN).astype(np.uint8)
DEEP = (ROW * 80 + COLUMN).astype(np.uint16)  # 0 .. 3823, 12 bits
COLOUR = np.stack([ROW * 5, COLUMN * 4, 255 - ROW * 2 - COLUMN], axis=2).astype(np.uint8)


@pytest.fixture
def write(write_dicom):
    """write(pixels, frame, syntax, **elements): a DICOM file of these pixels' header and this compressed frame."""

    def write(pixels, frame, syntax, **elements):
        path = write_dicom("a.dcm", pixels, colour=pixels.ndim == 3)
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([frame] if isinstance(frame, bytes) else frame)
        dataset["PixelData"].is_undefined_length = True
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        return path

    return write


def one(path):
    (image,) = read(path)
    return image


def apart(image, expected) -> int:
    assert image.pixels.shape == expected.shape
    return int(np.abs(image.pixels.astype(int) - expected.astype(int)).max())


def refusal(path) -> str:
    with pytest.raises(ImageError) as caught:
        list(read(path, frames="all"))
    return str(caught.value)


def jpeg(pixels, **options) -> bytes:
    """Quality 95, chroma not subsampled, so that decoders agree within a few grey levels."""
    out = io.BytesIO()
    PillowImage.fromarray(pixels).save(out, "JPEG", quality=95, **{"subsampling": "4:4:4", **options})
    return out.getvalue()


def without_jfif(data: bytes) -> bytes:
    length = struct.unpack(">H", data[4:6])[0]
    assert data[6:10] == b"JFIF"
    return data[:2] + data[4 + length :]


def adobe(data: bytes, transform: int) -> bytes:
    """The codestream with an Adobe marker in place of the one of JFIF."""
    marker = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return data[:2] + marker + without_jfif(data)[2:]


def recoded(path, program, *options):
    """What a compressor of DCMTK makes of a file."""
    out = path.with_name("recoded.dcm")
    subprocess.run([f"/usr/bin/{program}", *options, str(path), str(out)], check=True)
    return pydicom.dcmread(out), out


# Colour


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("interpretation", ["YBR_FULL_422", "YBR_FULL", "RGB"])
def test_jpeg_says_its_own_colour_and_order(write, planar, interpretation):
    elements = {"PlanarConfiguration": planar, "PhotometricInterpretation": interpretation}
    for frame in (jpeg(COLOUR), adobe(jpeg(COLOUR), 1), without_jfif(jpeg(COLOUR, subsampling="4:2:0"))):
        assert apart(one(write(COLOUR, frame, JPEGBaseline8Bit, **elements)), COLOUR) <= 12
    # Pillow gives such files an Adobe marker and components called R, G and B: either says it.
    untransformed = jpeg(COLOUR, keep_rgb=True)
    unmarked = untransformed[:2] + untransformed[18:]
    assert b"Adobe\0\x64\0\0\0\0\0" in untransformed and b"Adobe" not in unmarked
    numbered = untransformed
    for name, number in ((b"R", b"\1"), (b"G", b"\2"), (b"B", b"\3")):
        numbered = numbered.replace(name + b"\x11\0", number + b"\x11\0").replace(name + b"\0", number + b"\0")
    for frame in (untransformed, unmarked, numbered):
        assert apart(one(write(COLOUR, frame, JPEGBaseline8Bit, **elements)), COLOUR) <= 12


def test_a_jpeg_that_says_nothing_of_its_colour_leaves_it_to_the_header(write):
    transformed = without_jfif(jpeg(COLOUR))
    assert apart(one(write(COLOUR, transformed, JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL")), COLOUR) <= 12
    plain = np.array(PillowImage.fromarray(COLOUR).convert("YCbCr"))
    image = one(write(COLOUR, transformed, JPEGBaseline8Bit, PhotometricInterpretation="RGB"))
    assert apart(image, plain) <= 12
    # Its two signs contradict each other: the header decides again.
    both = b"\xff\xd8\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + jpeg(COLOUR)[2:]
    assert apart(one(write(COLOUR, both, JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL")), COLOUR) <= 12
    assert "HSV" in refusal(write(COLOUR, transformed, JPEGBaseline8Bit, PhotometricInterpretation="HSV"))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("interpretation", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL", "YBR_FULL_422"])
def test_jpeg_2000_says_its_own_colour(write, planar, interpretation):
    elements = {"PlanarConfiguration": planar, "PhotometricInterpretation": interpretation}
    transformed = encode_array(COLOUR, photometric_interpretation=1, use_mct=True)
    np.testing.assert_array_equal(one(write(COLOUR, transformed, JPEG2000Lossless, **elements)).pixels, COLOUR)
    ycc = np.array(PillowImage.fromarray(COLOUR).convert("YCbCr"))
    untransformed = interpretation in ("YBR_FULL", "YBR_FULL_422")
    frame = encode_array(ycc if untransformed else COLOUR, photometric_interpretation=1, use_mct=False)
    assert apart(one(write(COLOUR, frame, JPEG2000Lossless, **elements)), COLOUR) <= 4


def test_deep_ycc_has_its_own_middle(write):
    deep = COLOUR.astype(np.uint16) * 257
    half = np.full_like(deep, 32768)
    half[..., 0] = 500
    frame = encode_array(half, photometric_interpretation=1, use_mct=False)
    image = one(write(deep, frame, JPEG2000Lossless, PhotometricInterpretation="YBR_FULL"))
    assert (image.pixels == 500).all()


def test_components_are_those_of_the_codestream(write):
    elements = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    assert apart(one(write(COLOUR, jpeg(COLOUR), JPEGBaseline8Bit, **elements)), COLOUR) <= 12
    transformed = encode_array(COLOUR, photometric_interpretation=1, use_mct=True)
    assert apart(one(write(COLOUR, transformed, JPEG2000Lossless, **elements)), COLOUR) == 0
    # Three components without a word on what they are.
    untransformed = encode_array(COLOUR, photometric_interpretation=1, use_mct=False)
    assert "3 components is MONOCHROME2" in refusal(write(COLOUR, untransformed, JPEG2000Lossless, **elements))
    assert apart(one(write(COLOUR, jpeg(GREY), JPEGBaseline8Bit)), GREY) <= 8
    assert apart(one(write(COLOUR, encode_array(GREY), JPEG2000Lossless)), GREY) == 0


# Bits and signs


def test_eight_bits_in_sixteen_allocated(write):
    elements = {"BitsAllocated": 16, "BitsStored": 8, "HighBit": 7}
    image = one(write(GREY, jpeg(GREY), JPEGBaseline8Bit, **elements))
    assert image.pixels.dtype == np.uint8 and apart(image, GREY) <= 8
    assert apart(one(write(GREY, encode_array(GREY), JPEG2000Lossless, **elements)), GREY) == 0


def test_jpeg_of_12_bits_called_10(write_dicom):
    path = write_dicom("a.dcm", DEEP, BitsStored=12, HighBit=11)
    dataset, out = recoded(path, "dcmcjpeg", "+ee")
    assert dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    expected = one(out).pixels
    dataset.BitsStored, dataset.HighBit = 10, 9
    dataset.save_as(out)
    image = one(out)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.max() > 3800 and image.photometry.bits == 12


def test_spectral_selection_of_zero(write_dicom):
    """Scan headers of sequential JPEG with Ss = Se = 0: only 0 .. 63 can be meant (T.81 table B.3)."""
    _, out = recoded(write_dicom("a.dcm", DEEP, BitsStored=12, HighBit=11), "dcmcjpeg", "+ee")
    expected = one(out).pixels
    header = b"\xff\xda\x00\x08\x01\x01\x00\x00"
    content = out.read_bytes()
    assert content.count(header + b"\x3f\0") == 1
    out.write_bytes(content.replace(header + b"\x3f\0", header + b"\0\0"))
    np.testing.assert_array_equal(one(out).pixels, expected)


def test_height_after_the_first_scan(write):
    """A height of 0 in the frame header follows in a DNL segment (T.81 B.2.5); without it nothing is decoded."""
    frame = jpeg(GREY)
    size = struct.pack(">HH", 48, 64)
    assert frame.count(b"\x08" + size) == 1
    nameless = frame.replace(b"\x08" + size, b"\x08" + struct.pack(">HH", 0, 64))
    assert "says no height" in refusal(write(GREY, nameless, JPEGBaseline8Bit))
    assert read_codestream(nameless[:-2] + b"\xff\xdc\x00\x04\x00\x30\xff\xd9").height == 48


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 13, 15])
def test_native_bits_outside_the_stored_ones(write_dicom, syntax, signed, high):
    values = DEEP.astype(int) - (2048 if signed else 0)
    noise = np.random.default_rng(3).integers(0, 1 << 16, DEEP.shape)
    mask = 0xFFF << (high - 11)
    words = ((values & 0xFFF) << (high - 11)) | (noise & ~mask & 0xFFFF)
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    path = write_dicom(
        "a.dcm", words.astype(order), syntax=syntax, BitsStored=12, HighBit=high, PixelRepresentation=int(signed)
    )
    np.testing.assert_array_equal(one(path).pixels, values)


@pytest.mark.parametrize("program", ["dcmcjpls", "dcmcrle", "dcmcjpeg"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 15])
def test_compressed_bits_outside_the_stored_ones(write, write_dicom, program, signed, high):
    """All 16 bits are in the codestream, an overlay and other things among them (PS3.5 8.1.1)."""
    values = DEEP.astype(int) - (2048 if signed else 0)
    noise = (np.random.default_rng(3).integers(0, 2, DEEP.shape) * 0xF) << (12 if high == 11 else 0)
    words = (((values & 0xFFF) << (high - 11)) | noise).astype(np.uint16)
    path = write_dicom("a.dcm", words)
    dataset, out = recoded(path, program, *({"dcmcjpeg": ["+e1"]}.get(program, [])))
    expected = {"dcmcjpls": JPEGLSLossless, "dcmcrle": RLELossless, "dcmcjpeg": pydicom.uid.JPEGLosslessSV1}
    assert dataset.file_meta.TransferSyntaxUID == expected[program]
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, high, int(signed)
    dataset.save_as(out)
    np.testing.assert_array_equal(one(out).pixels, values)


def test_jpeg_2000_bits_and_signs(write):
    signed = DEEP.astype(np.int16) - 2048
    stored = {"BitsStored": 12, "HighBit": 11}
    wide = (signed & 0xFFF).astype(np.uint16)
    for header in (signed, DEEP):
        # A codestream with a sign keeps it, whatever the header says.
        image = one(write(header, encode_array(signed, bits_stored=12), JPEG2000Lossless, **stored))
        np.testing.assert_array_equal(image.pixels, signed)
        image = one(write(header, encode_array(signed, bits_stored=16), JPEG2000Lossless, **stored))
        np.testing.assert_array_equal(image.pixels, signed)
    for bits in (12, 16):
        # One without leaves it to the header.
        image = one(write(signed, encode_array(wide, bits_stored=bits), JPEG2000Lossless, **stored))
        np.testing.assert_array_equal(image.pixels, signed)
    overlay = DEEP | (GREY.astype(np.uint16) << 12)
    image = one(write(DEEP, encode_array(overlay, bits_stored=16), JPEG2000Lossless, **stored))
    np.testing.assert_array_equal(image.pixels, DEEP)


def test_lossy_overshoot_is_not_cut(write):
    """Lossy codestreams go beyond the stored bits by rounding; cut bits would turn white into black."""
    white = np.where(COLUMN % 16 < 8, 4095, 0).astype(np.uint16)
    frame = encode_array(white, bits_stored=16, compression_ratios=[40])
    image = one(write(white, frame, JPEG2000Lossless, BitsStored=12, HighBit=11))
    assert image.pixels.max() > 4095
    assert (image.pixels[:, COLUMN[0] % 16 == 4] > 3000).all()


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32])
@pytest.mark.parametrize("stored", [1, 5, 8])
def test_stored_values_against_arithmetic(kind, stored, signed):
    samples = np.random.default_rng(1).integers(0, np.iinfo(kind).max, 500, kind, endpoint=True)
    for high in range(stored - 1, 8 * samples.itemsize):
        expected = [(int(sample) >> (high + 1 - stored)) % (1 << stored) for sample in samples]
        if signed:
            expected = [value - (1 << stored) if value >> (stored - 1) else value for value in expected]
        assert stored_values(samples, stored, high, signed).tolist() == expected


def test_run_lengths_say_how_wide_samples_are(write, write_dicom):
    frames = [(GREY, 1), (DEEP, 2)]
    for pixels, size in frames:
        dataset = pydicom.dcmread(write_dicom("b.dcm", pixels))
        dataset.compress(RLELossless)
        frame = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
        assert frame[0] == size
        image = one(write(pixels, frame, RLELossless, BitsAllocated=16, BitsStored=16, HighBit=15))
        np.testing.assert_array_equal(image.pixels, pixels)
        assert image.pixels.dtype == pixels.dtype
    assert "2 segments" in refusal(write(GREY, frame, RLELossless))


# Native


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_single_bits_run_on_across_frames(write_dicom, syntax):
    masks = np.random.default_rng(0).integers(0, 2, (60, 13, 12)).astype(np.uint8)
    packed = np.packbits(masks.ravel(), bitorder="little")
    if syntax == ExplicitVRBigEndian:
        packed = packed.reshape(-1, 2)[:, ::-1]
    elements = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed.tobytes()}
    path = write_dicom("a.dcm", masks, syntax=syntax, **elements)
    np.testing.assert_array_equal(np.stack([image.pixels for image in read(path, frames="all")]), masks)
    assert [image.pixels.tolist() for image in read(path, frames=17)] == masks[::17].tolist()
    # Frames that begin at whole bytes are not what the standard says, and not told apart otherwise.
    apart = np.packbits(masks.reshape(60, -1), axis=1, bitorder="little")[:4]
    path = write_dicom("b.dcm", masks[:4], syntax=syntax, **{**elements, "PixelData": apart.tobytes()})
    assert "78 bytes, but the pixel data has 80 bytes" in refusal(path)


def test_subsampled_chroma_is_told_by_its_length(write_dicom):
    ycc = np.array(PillowImage.fromarray(np.repeat(COLOUR[:, ::2], 2, axis=1)).convert("YCbCr"))
    expected = np.repeat(COLOUR[:, ::2], 2, axis=1)
    elements = {"PhotometricInterpretation": "YBR_FULL_422"}
    assert apart(one(write_dicom("a.dcm", ycc, colour=True, **elements)), expected) <= 4
    pairs = np.stack([ycc[:, ::2, 0], ycc[:, 1::2, 0], ycc[:, ::2, 1], ycc[:, ::2, 2]], axis=2)
    path = write_dicom("b.dcm", ycc, colour=True, PixelData=pairs.tobytes(), **elements)
    assert apart(one(path), expected) <= 4


@pytest.mark.parametrize("interpretation", ["YBR_PARTIAL_422", "HSV", "CMYK", "YBR_RCT"])
def test_colour_that_is_not_read(write_dicom, interpretation):
    path = write_dicom("a.dcm", COLOUR, colour=True, PhotometricInterpretation=interpretation)
    assert interpretation in refusal(path)


def test_big_endian_palette(write_dicom):
    entries = np.arange(256, dtype=np.uint16) * 257
    tables = {}
    for step, colour in enumerate(("Red", "Green", "Blue")):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = np.roll(entries, step).astype(">u2").tobytes()
    pairs = GREY.reshape(-1, 2)[:, ::-1].reshape(GREY.shape)
    path = write_dicom("a.dcm", pairs, syntax=ExplicitVRBigEndian, PhotometricInterpretation="PALETTE COLOR", **tables)
    expected = np.stack([np.roll(entries, step)[GREY] for step in range(3)], axis=2)
    np.testing.assert_array_equal(one(path).pixels, expected)


# What nobody can decide


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
def test_truncated_codestreams_are_no_pictures(write, share):
    for frame, syntax in ((jpeg(GREY), JPEGBaseline8Bit), (encode_array(GREY), JPEG2000Lossless)):
        assert refusal(write(GREY, frame[: int(len(frame) * share)], syntax))


def test_refusals_say_why(write):
    frame = encode_array(GREY)
    assert "4 components" in refusal(write(COLOUR, encode_array(np.dstack([COLOUR, GREY])), JPEG2000Lossless))
    palette = {"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}
    assert "PALETTE COLOR" in refusal(write(COLOUR, jpeg(COLOUR), JPEGBaseline8Bit, **palette))
    path = write(GREY, frame, JPEG2000Lossless)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0"))
    assert "the pixel data is compressed" in refusal(path)
    near = (
        b"\xff\xd8\xff\xf7\x00\x0b\x07\x00\x30\x00\x40\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x01\x00\x00\xff\xd9"
    )
    assert "near-lossless" in refusal(write(GREY, near, JPEGLSLossless))
    own = b"\xff\xd8\xff\xe8\x00\x07mrfx\x01" + jpeg(COLOUR)[2:]
    assert "colour transform of its own" in refusal(write(COLOUR, own, JPEGLossless))
