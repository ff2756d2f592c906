"""Raster files and arrays: every type, and what becomes of it."""

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import decode_pixels, encode_pixels, from_array, from_pil, read, render, render_colour

RNG = np.random.default_rng(11)
GREY = RNG.integers(0, 256, (31, 23)).astype(np.uint8)
RGB = RNG.integers(0, 256, (31, 23, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (31, 23)).astype(np.uint16)


def one(path):
    (image,) = read(path)
    return image


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "pgm", "gif", "jp2"])
def test_lossless_grey_files(tmp_path, suffix):
    options = {"webp": {"lossless": True}}.get(suffix, {})
    PillowImage.fromarray(GREY).save(tmp_path / f"a.{suffix}", **options)
    image = one(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image.pixels, GREY)
    assert image.path == str(tmp_path / f"a.{suffix}")
    assert image.metadata == {"rows": 31, "columns": 23}
    assert (image.frame, image.frames) == (0, 1)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp", "ppm", "jp2"])
def test_lossless_colour_files(tmp_path, suffix):
    options = {"webp": {"lossless": True}}.get(suffix, {})
    PillowImage.fromarray(RGB).save(tmp_path / f"a.{suffix}", **options)
    np.testing.assert_array_equal(one(tmp_path / f"a.{suffix}").pixels, RGB)


def test_content_not_name_tells_the_kind(tmp_path):
    PillowImage.fromarray(GREY).save(tmp_path / "a.dcm", format="PNG")
    np.testing.assert_array_equal(one(tmp_path / "a.dcm").pixels, GREY)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey(tmp_path, suffix):
    PillowImage.fromarray(DEEP).save(tmp_path / f"a.{suffix}")
    image = one(tmp_path / f"a.{suffix}")
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels, DEEP)


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        (np.uint8, np.uint8),
        (np.uint16, np.uint16),
        (np.int16, np.int16),
        (np.float32, np.float32),
        (np.float64, np.float32),
        (np.uint32, np.float32),
        (np.float16, np.float32),
        (np.int8, np.int16),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_types(tmp_path, kind, kept, order):
    pixels = (RNG.random((20, 30)) * 100).astype(kind)
    if kind == np.uint32:
        pixels = pixels * np.uint32(1_000_000)
    if kept == np.int16:
        pixels = pixels - kind(50)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=order)
    image = one(tmp_path / "a.tif")
    assert image.pixels.dtype == kept
    np.testing.assert_array_equal(image.pixels, pixels.astype(kept))


def test_tiff_colour_of_16_bits(tmp_path):
    deep = RGB.astype(np.uint16) * 257
    for planar in ("contig", "separate"):
        data = deep if planar == "contig" else deep.transpose(2, 0, 1)
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar)
        image = one(tmp_path / "a.tif")
        assert image.pixels.dtype == np.uint16
        np.testing.assert_array_equal(image.pixels, deep)
        np.testing.assert_array_equal(render_colour(image), RGB)


@pytest.mark.parametrize("pixels", [GREY, DEEP, (DEEP / 7).astype(np.float32), (DEEP / 7).astype(np.float64)])
def test_tiff_white_is_zero_is_turned_around(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "white.tif", pixels, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "black.tif", pixels, photometric="minisblack")
    white, black = one(tmp_path / "white.tif"), one(tmp_path / "black.tif")
    np.testing.assert_array_equal(render(white), 255 - render(black))


def test_tiff_pages_are_frames(tmp_path):
    for kind in (np.uint8, np.float64):
        stack = RNG.integers(0, 255, (5, 20, 30)).astype(kind)
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
        images = list(read(tmp_path / "a.tif", frames="all"))
        assert [image.frame for image in images] == [0, 1, 2, 3, 4]
        np.testing.assert_array_equal(np.stack([image.pixels for image in images]), stack)
        assert [image.frame for image in read(tmp_path / "a.tif")] == [2]
        assert [image.frame for image in read(tmp_path / "a.tif", frames=3)] == [0, 3]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    PillowImage.fromarray(DEEP).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(one(tmp_path / "a.tif").pixels, DEEP)


def test_jpeg_of_equal_channels_is_grey(tmp_path):
    soft = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (90, 1))
    PillowImage.fromarray(np.stack([soft] * 3, axis=2)).save(tmp_path / "a.jpg", quality=95)
    image = one(tmp_path / "a.jpg")
    assert image.pixels.shape == (90, 120)
    assert np.abs(image.pixels.astype(int) - soft).max() < 6


def test_exif_orientation_is_applied(tmp_path):
    picture = PillowImage.fromarray(GREY)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(one(tmp_path / "a.png").pixels, np.rot90(GREY, -1))


def test_palettes_bits_and_transparency(tmp_path):
    PillowImage.fromarray(GREY > 128).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(one(tmp_path / "bits.png").pixels, (GREY > 128) * np.uint8(255))
    PillowImage.fromarray(GREY).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(one(tmp_path / "palette.png").pixels, GREY)
    alpha = np.where(np.arange(31)[:, None] < 10, 0, 255).astype(np.uint8) * np.ones((1, 23), np.uint8)
    PillowImage.fromarray(np.dstack([GREY, GREY, GREY, alpha])).save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(one(tmp_path / "alpha.png").pixels, np.where(alpha > 0, GREY, 0))


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"]
)
def test_pillow_modes(mode):
    source = {"I;16": DEEP, "L": GREY, "I": GREY, "F": GREY, "1": GREY, "LA": GREY}.get(mode, RGB)
    picture = PillowImage.fromarray(source)
    picture = picture if picture.mode == mode else picture.convert(mode)
    assert picture.mode == mode
    image = from_pil(picture)
    assert image.pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32)
    assert image.pixels.shape[:2] == (31, 23)
    assert render(image).dtype == np.uint8


@pytest.mark.parametrize(
    "array",
    [
        GREY,
        GREY[..., None],
        RGB,
        DEEP,
        GREY.astype(bool),
        GREY.astype(np.int64),
        GREY.astype(">u2"),
        GREY.tolist(),
        (GREY / 255).astype(np.float16),
        np.dstack([RGB, GREY]),
        RGB / 255,
        GREY.T,
        GREY[::-1, ::-2],
    ],
)
def test_arrays(array):
    image = from_array(array, {"modality": "CT"})
    assert image.metadata == {"modality": "CT"}
    assert image.pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32)
    assert image.pixels.shape[:2] == np.shape(array)[:2]
    assert render(image).shape == np.shape(array)[:2]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 5)), "no pixels"),
        (np.zeros((5, 0, 3)), "no pixels"),
        (np.zeros(7), "shape"),
        (np.zeros((3, 9, 9)), "shape"),
        (np.zeros((2, 2, 2, 2)), "shape"),
        (np.zeros((4, 4), complex), "type"),
        (np.full((4, 4), "x"), "type"),
        ("words", "shape"),
        (None, "shape"),
        ([[1, 2], [3]], "array"),
        (np.broadcast_to(np.uint8(0), (20000, 20000)), "limit"),
    ],
)
def test_arrays_that_are_no_pictures(array, reason):
    with pytest.raises(ImageError, match=reason):
        from_array(array)


def test_digests_do_not_depend_on_the_layout_in_memory():
    """Two images of the same values are the same picture, whatever their layout in memory."""
    assert from_array(GREY.T).digest == from_array(GREY.T.copy()).digest
    assert from_array(GREY.astype(">u2")).digest == from_array(GREY.astype("<u2")).digest


KINDS = st.sampled_from([np.uint8, np.uint16, np.int16, np.float32])


@given(KINDS, st.booleans(), st.data())
def test_lossless_pixels_come_back_bit_for_bit(kind, colour, data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9))) + ((3,) if colour else ())
    pixels = data.draw(hnp.arrays(kind, shape))
    encoded = encode_pixels(pixels)
    decoded = decode_pixels(encoded)
    assert decoded.dtype == pixels.dtype and decoded.shape == pixels.shape
    assert decoded.tobytes() == pixels.tobytes()
    assert encode_pixels(pixels.copy(order="F")) == encoded


def test_lossless_pixels_are_small_and_png_where_they_can_be():
    y, x = np.mgrid[0:256, 0:256]
    scan = (1000 * np.sin(x / 40) * np.cos(y / 50)).astype(np.int16)
    assert encode_pixels(scan)[:4] == b"\x89PNG"
    assert len(encode_pixels(scan)) < scan.nbytes / 2


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"medlike-npy\nxx", b"junk", encode_pixels(DEEP)[:-40]]
)
def test_damaged_lossless_pixels(data):
    with pytest.raises(ImageError, match="damaged"):
        decode_pixels(data)
