"""PNG, PNM and JPEG 2000 keep their stored values; transparency lies over black; pictures stand upright."""

import io
import struct
import zlib

import numpy as np
import pytest
from openjpeg.utils import encode_array
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import from_array, from_pil, read, render, render_colour

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (31, 23)).astype(np.uint8)
RGB = RNG.integers(0, 256, (31, 23, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (31, 23)).astype(np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (31, 23, 3)).astype(np.uint16)
ALPHA = RNG.integers(0, 65536, (31, 23)).astype(np.uint16)
#: The encoder needs 32 pixels a side.
WIDE = RNG.integers(0, 65536, (40, 33, 3)).astype(np.uint16)
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def one(path):
    (image,) = read(path)
    return image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def filtered(rows, step, kinds):
    """Rows of bytes, uint8 [H, N], with the PNG filters 0 .. 4 in turn."""
    lines, above = [], np.zeros(rows.shape[1], int)
    for at, row in enumerate(rows.astype(int)):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        kind = kinds[at % len(kinds)]
        prediction = [0, left, above, (left + above) // 2, paeth][kind]
        lines.append(bytes([kind]) + ((row - prediction) % 256).astype(np.uint8).tobytes())
        above = row
    return b"".join(lines)


def png(pixels, colour, depth=16, clear=None, interlaced=False, kinds=(0, 1, 2, 3, 4), extra=b""):
    """A PNG made by hand: pixels [H, W, S] or [H, W], of `depth` bits."""
    samples = pixels.reshape(*pixels.shape[:2], -1)
    height, width, count = samples.shape

    def rows(part):
        if depth >= 8:
            flat = np.ascontiguousarray(part, f">u{depth // 8}")
            return flat.view(np.uint8).reshape(part.shape[0], -1)
        bits = (part[..., 0, None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
        return np.packbits(bits.reshape(part.shape[0], -1), axis=1)

    step = max(count * depth // 8, 1)
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    parts = [samples[top::down, left::across] for top, left, down, across in passes]
    data = b"".join(filtered(rows(part), step, kinds) for part in parts if part.size)
    transparent = b"" if clear is None else chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
        + extra
        + transparent
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def over_black(colour, alpha):
    return np.floor(colour * (alpha / 65535.0) + 0.5)


@pytest.mark.parametrize("interlaced", [False, True])
def test_16_bit_png_keeps_its_values(tmp_path, interlaced):
    cases = {
        0: (DEEP, DEEP),
        2: (DEEP_RGB, DEEP_RGB),
        4: (np.dstack([DEEP, ALPHA]), over_black(DEEP, ALPHA)),
        6: (np.dstack([DEEP_RGB, ALPHA]), over_black(DEEP_RGB, ALPHA[..., None])),
    }
    for colour, (stored, expected) in cases.items():
        (tmp_path / "a.png").write_bytes(png(stored, colour, interlaced=interlaced))
        image = one(tmp_path / "a.png")
        assert image.pixels.dtype == np.uint16
        np.testing.assert_array_equal(image.pixels, expected)


def test_16_bit_png_of_equal_channels_is_grey(tmp_path):
    opaque = np.full((31, 23), 65535)
    for colour, stored in ((2, np.dstack([DEEP] * 3)), (6, np.dstack([DEEP, DEEP, DEEP, opaque]))):
        (tmp_path / "a.png").write_bytes(png(stored, colour))
        np.testing.assert_array_equal(one(tmp_path / "a.png").pixels, DEEP)


@pytest.mark.parametrize("top", [255, 1023, 4095, 16383, 65535])
def test_16_bit_colour_is_shown_on_the_scale_that_holds_it(tmp_path, top):
    pixels = (DEEP_RGB // ((65535 // top) + 1 if top < 65535 else 1)).astype(np.uint16)
    pixels[0, 0] = top, 0, 0
    (tmp_path / "a.png").write_bytes(png(pixels, 2))
    expected = np.floor(pixels * (255.0 / top) + 0.5)
    np.testing.assert_array_equal(render_colour(one(tmp_path / "a.png")), expected)
    np.testing.assert_array_equal(render_colour(from_array(pixels)), expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_is_black(tmp_path, depth):
    """tRNS is in the file's own units; Pillow compares it with values spread to 8 bits."""
    stored = DEEP >> (16 - depth)
    clear = int(stored[3, 3])
    (tmp_path / "a.png").write_bytes(png(stored, 0, depth, clear=(clear,), kinds=(0,)))
    spread = stored if depth == 16 else stored.astype(int) * 255 // (2**depth - 1)
    np.testing.assert_array_equal(one(tmp_path / "a.png").pixels, np.where(stored == clear, 0, spread))


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour_is_black(tmp_path, depth):
    stored = DEEP_RGB >> (16 - depth)
    clear = tuple(int(value) for value in stored[5, 5])
    (tmp_path / "a.png").write_bytes(png(stored, 2, depth, clear=clear))
    through = (stored == stored[5, 5]).all(axis=2, keepdims=True)
    assert through.any()
    np.testing.assert_array_equal(one(tmp_path / "a.png").pixels, np.where(through, 0, stored))


def test_partly_transparent_16_bit_grey_is_not_stretched(tmp_path):
    """It was drawn: the smallest scale that holds its values is spread, and no percentile."""
    stored = (DEEP % 2000 + 900).astype(np.uint16)
    stored[:9] = 65535
    expected = np.where(stored == 65535, 0, np.floor(stored * (255 / 4095) + 0.5))
    (tmp_path / "a.png").write_bytes(png(stored, 0, clear=(65535,)))
    np.testing.assert_array_equal(render(one(tmp_path / "a.png")), expected)
    alpha = np.where(stored == 65535, 0, 65535)
    (tmp_path / "b.png").write_bytes(png(np.dstack([stored, alpha]), 4))
    np.testing.assert_array_equal(render(one(tmp_path / "b.png")), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_png_is_turned_upright_once(tmp_path, orientation):
    exif = PillowImage.Exif()
    exif[274] = orientation
    extra = chunk(b"eXIf", exif.tobytes()[6:])
    (tmp_path / "grey.png").write_bytes(png(DEEP, 0, extra=extra))
    (tmp_path / "rgb.png").write_bytes(png(np.dstack([DEEP, DEEP.T.reshape(DEEP.shape), DEEP]), 2, extra=extra))
    (tmp_path / "clear.png").write_bytes(png(DEEP, 0, clear=(int(DEEP[0, 0]),), extra=extra))
    PillowImage.fromarray(GREY).save(tmp_path / "a.webp", lossless=True, exif=exif)
    PillowImage.fromarray(GREY).save(tmp_path / "a.jpg", quality=100, exif=exif)
    grey = one(tmp_path / "grey.png").pixels
    assert grey.shape == (DEEP.shape if orientation < 5 else DEEP.shape[::-1])
    np.testing.assert_array_equal(one(tmp_path / "rgb.png").pixels[..., 0], grey)
    np.testing.assert_array_equal(one(tmp_path / "clear.png").pixels, np.where(grey == DEEP[0, 0], 0, grey))
    place = {
        1: (0, 0),
        2: (0, -1),
        3: (-1, -1),
        4: (-1, 0),
        5: (0, 0),
        6: (0, -1),
        7: (-1, -1),
        8: (-1, 0),
    }[orientation]
    # Where the stored first pixel is seen, and along which side the stored first row.
    assert grey[place] == DEEP[0, 0]
    assert np.array_equal(np.sort(grey[:, place[1]] if orientation > 4 else grey[place[0]]), np.sort(DEEP[0]))
    webp, jpeg = one(tmp_path / "a.webp").pixels, one(tmp_path / "a.jpg").pixels
    assert webp[place] == GREY[0, 0] and webp.shape == jpeg.shape == grey.shape
    assert np.abs(webp.astype(int) - jpeg).max() < 8


def test_animated_16_bit_colour_is_refused(tmp_path):
    whole = png(DEEP_RGB, 2)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 23, 31, 0, 0, 1, 10, 0, 0))
    second = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, 23, 31, 0, 0, 1, 10, 0, 0))
    data = zlib.compress(filtered(np.ascontiguousarray(DEEP_RGB, ">u2").view(np.uint8).reshape(31, -1), 6, (0,)))
    at = whole.index(b"IDAT") - 4
    end = whole.index(b"IEND") - 4
    again = chunk(b"fdAT", struct.pack(">I", 2) + data)
    (tmp_path / "a.png").write_bytes(whole[:at] + control + frame + whole[at:end] + second + again + whole[end:])
    with pytest.raises(ImageError, match="animated PNG of 16 bits"):
        one(tmp_path / "a.png")


@pytest.mark.parametrize("white", [1, 15, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_pnm_keeps_its_values(tmp_path, white, colour, plain):
    stored = (DEEP_RGB if colour else DEEP).astype(np.int64) * white // 65535
    stored.flat[0] = white
    if plain:
        data = " ".join(map(str, stored.ravel().tolist())).encode() + b"\n# the end"
    else:
        data = stored.astype(">u2" if white > 255 else np.uint8).tobytes()
    magic = {(0, 0): b"P5", (1, 0): b"P6", (0, 1): b"P2", (1, 1): b"P3"}[colour, plain]
    (tmp_path / "a.pnm").write_bytes(magic + b"\n# made by hand\n23 31 # columns, rows\n%d\n" % white + data)
    image = one(tmp_path / "a.pnm")
    assert image.pixels.dtype == (np.uint8 if white < 256 else np.uint16)
    np.testing.assert_array_equal(image.pixels, stored)
    if white < 256 or (colour and white in (1023, 4095, 65535)):
        np.testing.assert_array_equal(render_colour(image), np.floor(stored * (255.0 / white) + 0.5))


def test_bitmaps_are_black_and_white(tmp_path):
    for magic, data in ((b"P1", b"1 0\n0 1"), (b"P4", bytes([0b10000000, 0b01000000]))):
        (tmp_path / "a.pbm").write_bytes(magic + b"\n2 2\n" + data)
        assert one(tmp_path / "a.pbm").pixels.tolist() == [[0, 255], [255, 0]]


def test_only_the_first_picture_of_a_pnm_is_read(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 255\n\x01\x02P5 2 1 255\n\x03\x04")
    assert one(tmp_path / "a.pgm").pixels.tolist() == [[1, 2]]
    (tmp_path / "b.pgm").write_bytes(b"P2 2 1 255\n1 2 3 4")
    assert one(tmp_path / "b.pgm").pixels.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P5\n3 3\n255\n12345678", "9 samples; the file has 8"),
        (b"P5\n3 3\n1023\n" + b"\0" * 17, "9 samples; the file has 8"),
        (b"P2\n2 2\n9\n1 2 3 x", "no number"),
        (b"P2\n2 2\n9\n1 2 3 10", "a sample is 10"),
        (b"P5\n0 3\n255\n", "no pixels"),
        (b"P5\n3 3\n70000\n" + b"\0" * 18, "maxval of 70000"),
        (b"P5\n3 3\n0\n" + b"\0" * 18, "maxval of 0"),
        (b"P6\n99999999 99999999\n255\n", "limit"),
        (b"P5\nthree 3\n255\n123456789", "header is damaged"),
    ],
)
def test_damaged_pnm(tmp_path, data, reason):
    (tmp_path / "a.pgm").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        one(tmp_path / "a.pgm")


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("box", [0, 1], ids=["codestream", "jp2"])
def test_jpeg_2000_keeps_its_values(tmp_path, bits, signed, box):
    stored = WIDE[..., 0] >> (16 - bits)
    stored = (stored.astype(np.int32) - 2 ** (bits - 1)).astype(np.int16) if signed else stored
    (tmp_path / "a.jp2").write_bytes(encode_array(stored, bits_stored=bits, codec_format=box))
    image = one(tmp_path / "a.jp2")
    assert image.pixels.dtype == (np.int16 if signed else np.uint16)
    np.testing.assert_array_equal(image.pixels, stored)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_2000_in_colour(tmp_path, bits):
    stored = (WIDE >> (16 - bits)).astype(np.uint16 if bits > 8 else np.uint8)
    data = encode_array(stored, bits_stored=bits, photometric_interpretation=1, codec_format=1)
    (tmp_path / "a.jp2").write_bytes(data)
    image = one(tmp_path / "a.jp2")
    np.testing.assert_array_equal(image.pixels, stored)
    np.testing.assert_array_equal(render_colour(image), np.floor(stored * (255.0 / (2**bits - 1)) + 0.5))


def test_jpeg_2000_of_8_signed_bits(tmp_path):
    stored = (WIDE[..., 0] >> 8).astype(np.uint8).view(np.int8)
    (tmp_path / "a.j2k").write_bytes(encode_array(stored, bits_stored=8))
    np.testing.assert_array_equal(one(tmp_path / "a.j2k").pixels, stored)


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "tif", "jp2"])
def test_alpha_of_8_bits_over_black(tmp_path, suffix):
    clear = np.add.outer(np.arange(31), np.arange(23)) % 2 == 0
    picture = PillowImage.fromarray(np.dstack([RGB // 64 * 64, np.where(clear, 0, 255).astype(np.uint8)]))
    picture.save(tmp_path / f"a.{suffix}", **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    pixels = one(tmp_path / f"a.{suffix}").pixels
    np.testing.assert_array_equal(pixels, np.where(clear[..., None], 0, RGB // 64 * 64))


def test_pillow_pictures_of_multiplied_colour_are_over_black_already():
    alpha = GREY.clip(1)
    colour = np.minimum(RGB, alpha[..., None])
    picture = PillowImage.frombytes("RGBa", (23, 31), np.dstack([colour, alpha]).tobytes())
    np.testing.assert_array_equal(from_pil(picture).pixels, colour)


def test_cmyk_jpeg_is_what_pillow_saved(tmp_path):
    soft = np.tile(np.arange(0, 230, 2, dtype=np.uint8), (40, 1))
    picture = PillowImage.fromarray(np.dstack([soft, 255 - soft, soft // 2])).convert("CMYK")
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=98)
    (tmp_path / "a.jpg").write_bytes(stream.getvalue())
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(one(tmp_path / "a.jpg").pixels - expected).max() < 12
