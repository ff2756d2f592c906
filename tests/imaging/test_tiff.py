"""TIFF of every kind, upright exactly once, its stored values whole."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import read, render, render_colour
from medlike.imaging.tiff import upright

RNG = np.random.default_rng(5)
#: No symmetry: every orientation makes another picture. Sides that are no multiples of a tile's.
GREY = RNG.integers(0, 256, (40, 23)).astype(np.uint8)
RGB = RNG.integers(0, 256, (40, 23, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (40, 23)).astype(np.uint16)
DEEP_RGB = RNG.integers(0, 65536, (40, 23, 3)).astype(np.uint16)
ORIENTATIONS = range(1, 9)


def one(path):
    (image,) = read(path)
    return image


def turned(pixels, orientation):
    """What a viewer shows of stored pixels, by Pillow's own table of EXIF orientations."""
    methods = {
        2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
        3: PillowImage.Transpose.ROTATE_180,
        4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
        5: PillowImage.Transpose.TRANSPOSE,
        6: PillowImage.Transpose.ROTATE_270,
        7: PillowImage.Transpose.TRANSVERSE,
        8: PillowImage.Transpose.ROTATE_90,
    }
    height, width = pixels.shape[:2]
    index = PillowImage.fromarray(np.arange(height * width, dtype=np.int32).reshape(height, width))
    places = np.asarray(index if orientation == 1 else index.transpose(methods[orientation]))
    return pixels.reshape(-1, *pixels.shape[2:])[places]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_upright(orientation):
    np.testing.assert_array_equal(upright(DEEP_RGB, orientation), turned(DEEP_RGB, orientation))


def tag(orientation):
    return [(274, "H", 1, orientation, True)]


KINDS = {
    "8": (GREY, {}),
    "16": (DEEP, {}),
    "signed 16": (DEEP.view(np.int16), {}),
    "signed 8": (GREY.view(np.int8), {}),
    "32": (DEEP.astype(np.uint32) * 65537, {}),
    "float": (DEEP.astype(np.float32) / 7, {}),
    "double": (DEEP.astype(np.float64) / 7, {}),
    "tiled": (DEEP, {"tile": (16, 16)}),
    "strips": (DEEP, {"rowsperstrip": 7}),
    "deflate": (DEEP, {"compression": "zlib"}),
    "signed 16 deflate": (DEEP.view(np.int16), {"compression": "zlib", "rowsperstrip": 7}),
    "float deflate": (DEEP.astype(np.float32) / 7, {"compression": "zlib"}),
    "predictor": (DEEP, {"compression": "zlib", "predictor": True}),
    "rgb": (RGB, {"photometric": "rgb"}),
    "rgb tiled": (RGB, {"photometric": "rgb", "tile": (16, 16)}),
    "rgb 16": (DEEP_RGB, {"photometric": "rgb"}),
    "rgb float": (DEEP_RGB.astype(np.float32), {"photometric": "rgb"}),
    "rgb planar": (RGB, {"photometric": "rgb", "planarconfig": "separate"}),
    "rgb 16 planar": (DEEP_RGB, {"photometric": "rgb", "planarconfig": "separate"}),
    "rgb 16 deflate": (DEEP_RGB, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_orientation_of_every_kind(tmp_path, kind, order, big):
    pixels, options = KINDS[kind]
    data = pixels.transpose(2, 0, 1) if "planar" in kind else pixels
    for orientation in ORIENTATIONS:
        tifffile.imwrite(
            tmp_path / "a.tif",
            data,
            byteorder=order,
            bigtiff=big,
            extratags=tag(orientation),
            **{"photometric": "minisblack", **options},
        )
        image = one(tmp_path / "a.tif")
        np.testing.assert_array_equal(image.pixels, turned(pixels, orientation).astype(image.pixels.dtype))
        assert image.pixels.dtype == {"8": np.uint8}.get(kind, image.pixels.dtype)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "F", "CMYK"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_jpeg", "group4"])
def test_every_orientation_of_what_pillow_writes(tmp_path, mode, compression):
    if (compression == "group4") != (mode == "1") or (compression == "tiff_jpeg" and mode not in ("L", "RGB")):
        return
    sources = {"I;16": DEEP, "F": DEEP.astype(np.float32), "RGBA": np.dstack([RGB, GREY]), "L": GREY}
    picture = PillowImage.fromarray(sources.get(mode, RGB if mode != "1" else GREY))
    picture = picture if picture.mode == mode else picture.convert(mode)
    picture.save(tmp_path / "1.tif", compression=compression)
    plain = one(tmp_path / "1.tif").pixels
    if mode in ("I;16", "F", "L") and compression != "tiff_jpeg":
        np.testing.assert_array_equal(plain, sources[mode])
    for orientation in ORIENTATIONS:
        picture.save(tmp_path / "a.tif", compression=compression, tiffinfo={274: orientation})
        np.testing.assert_array_equal(one(tmp_path / "a.tif").pixels, turned(plain, orientation))


def test_orientations_of_pages_are_their_own_and_so_are_their_kinds(tmp_path):
    pages = [(GREY, 6), (DEEP_RGB, 1), (DEEP, 5), (RGB, 3), (DEEP_RGB, 8)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for pixels, orientation in pages:
            file.write(
                pixels,
                photometric="rgb" if pixels.ndim == 3 else "minisblack",
                extratags=tag(orientation),
                contiguous=False,
            )
    for image, (pixels, orientation) in zip(read(tmp_path / "a.tif", frames="all"), pages, strict=True):
        assert image.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(image.pixels, turned(pixels, orientation))


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=tag(orientation))
    np.testing.assert_array_equal(one(tmp_path / "a.tif").pixels, GREY)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_white_is_zero_is_turned_around_and_upright(tmp_path, kind):
    pixels = DEEP.astype(kind)
    for name, photometric, order in (("w", "miniswhite", ">"), ("v", "miniswhite", "<"), ("b", "minisblack", "<")):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", pixels, photometric=photometric, byteorder=order, extratags=tag(6)
        )
    black = 255 - render(one(tmp_path / "b.tif"))
    np.testing.assert_array_equal(render(one(tmp_path / "w.tif")), black)
    np.testing.assert_array_equal(render(one(tmp_path / "v.tif")), black)


ALPHA = np.where(np.add.outer(np.arange(40), np.arange(23)) % 3 == 0, 0, 65535).astype(np.uint16)
HALF = np.full((40, 23), 32768, np.uint16)


@pytest.mark.parametrize("alpha", [ALPHA, HALF], ids=["hard", "half"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_16_bit_colour_over_black(tmp_path, alpha, compression, planar):
    data = np.dstack([DEEP_RGB, alpha])
    written = data if planar == "contig" else np.ascontiguousarray(data.transpose(2, 0, 1))
    options = {"photometric": "rgb", "planarconfig": planar, "compression": compression}
    expected = np.rint(DEEP_RGB * (alpha[..., None] / 65535.0))
    tifffile.imwrite(tmp_path / "a.tif", written, extrasamples=["unassalpha"], **options)
    assert np.abs(one(tmp_path / "a.tif").pixels - expected).max() <= 0.5
    tifffile.imwrite(tmp_path / "b.tif", written, extrasamples=["assocalpha"], **options)
    np.testing.assert_array_equal(one(tmp_path / "b.tif").pixels, DEEP_RGB)
    tifffile.imwrite(tmp_path / "c.tif", written, extrasamples=["unspecified"], **options)
    np.testing.assert_array_equal(one(tmp_path / "c.tif").pixels, DEEP_RGB)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_over_black(tmp_path, kind, photometric):
    grey, alpha = DEEP.astype(kind), ALPHA.astype(kind)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.dstack([grey, alpha]),
        photometric=photometric,
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    shown = grey if photometric == "minisblack" else np.iinfo(kind).max - grey
    np.testing.assert_array_equal(one(tmp_path / "a.tif").pixels, np.where(alpha > 0, shown, 0))


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_8_bit_alpha(tmp_path, extra):
    """Colour that is multiplied by its alpha is not multiplied again, nor divided and rounded."""
    alpha = RNG.integers(0, 256, (40, 23)).astype(np.uint8)
    colour = RGB if extra == "unassalpha" else np.minimum(RGB, alpha[..., None])
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([colour, alpha]), photometric="rgb", extrasamples=[extra])
    expected = np.floor(RGB * (alpha[..., None] / 255.0) + 0.5) if extra == "unassalpha" else colour
    np.testing.assert_array_equal(one(tmp_path / "a.tif").pixels, expected)
    grey = GREY if extra == "unassalpha" else np.minimum(GREY, alpha)
    tifffile.imwrite(
        tmp_path / "b.tif",
        np.dstack([grey, alpha]),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=[extra],
    )
    expected = np.floor(GREY * (alpha / 255.0) + 0.5) if extra == "unassalpha" else grey
    np.testing.assert_array_equal(one(tmp_path / "b.tif").pixels, expected)


def lzw(data: bytes) -> bytes:
    """TIFF's LZW without compression: codes of 9 bits, the table cleared before it grows past them."""
    codes: list[int] = []
    for start in range(0, len(data), 250):
        codes += [256, *data[start : start + 250]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("samples", [3, 4])
def test_16_bit_colour_with_lzw(tmp_path, order, orientation, samples):
    """tifffile has no LZW of its own; the words come through Pillow's libtiff whole."""
    data = np.dstack([DEEP_RGB, ALPHA])[..., :samples]
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        data,
        photometric="rgb",
        byteorder=order,
        extrasamples=["unassalpha"] if samples == 4 else None,
        extratags=tag(orientation),
    )
    path = tmp_path / "a.tif"
    raw, packed = bytearray(stream.getvalue()), lzw(data.astype(data.dtype.newbyteorder(order)).tobytes())
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        tags = file.pages[0].tags
        for name, value in (("Compression", 5), ("StripOffsets", len(raw)), ("StripByteCounts", len(packed))):
            place, size = tags[name].valueoffset, tags[name].valuebytecount
            raw[place : place + size] = value.to_bytes(size, "little" if order == "<" else "big")
    path.write_bytes(bytes(raw) + packed)
    expected = DEEP_RGB if samples == 3 else np.where(ALPHA[..., None] > 0, DEEP_RGB, 0)
    np.testing.assert_array_equal(one(path).pixels, turned(expected, orientation))


def test_what_no_decoder_undoes_is_refused_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP.astype(np.uint32))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages[0].tags["Compression"].valueoffset
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[place] = 5
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(ImageError, match="1 x 32 bits with LZW compression is not read: save it without"):
        one(tmp_path / "a.tif")


def test_16_bit_colour_that_holds_12_bits_is_not_black(tmp_path):
    pixels = (DEEP_RGB // 16).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    np.testing.assert_array_equal(render_colour(one(tmp_path / "a.tif")), np.floor(pixels * (255 / 4095) + 0.5))


def test_samples_count_against_the_limit_before_anything_is_decoded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        places = [(tags["ImageWidth"], 10000), (tags["ImageLength"], 9000), (tags["SamplesPerPixel"], 60000)]
        places = [(one_tag.valueoffset, one_tag.valuebytecount, value) for one_tag, value in places]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    for place, size, value in places:
        raw[place : place + size] = value.to_bytes(size, "little")
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(ImageError, match="limit"):
        one(tmp_path / "a.tif")


def test_inks_of_16_bits_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "inks.tif", np.full((6, 5, 4), 40_000, np.uint16), photometric="separated")
    with pytest.raises(ImageError, match="4 x 16 bits"):
        list(read(tmp_path / "inks.tif"))
