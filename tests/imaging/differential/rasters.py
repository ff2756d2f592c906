"""Raster files drawn at random, and their pixels by ffmpeg's decoders, under the rules of docs/imaging.md.

medlike reads rasters with Pillow and tifffile; ffmpeg's decoders (through PyAV) share no code with either.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import tifffile
from encoders import SMALLEST_OPENJPEG, j2k_by_pillow
from openjpeg.utils import encode_array
from PIL import Image as PillowImage
from variants import Draw
from witnesses import NoWitness

#: How each TIFF and EXIF orientation turns a stored picture upright (TIFF 6.0, Orientation).
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


@dataclass
class Raster:
    """A raster file, how ffmpeg names its decoder, and what the decoder does not apply.

    top: Highest value that the file can hold. orientation: 1 to 8. tolerance: Largest difference that is right.
    """

    path: Path
    decoder: str
    top: int
    orientation: int = 1
    tolerance: int = 0


def samples(draw: Draw, top, channels, smallest=2):
    """Integers 0 .. top, [H, W] or [H, W, channels]; colour may have equal channels, alpha its both ends."""
    values = draw.picture(8, colour=channels >= 3, frames=1, smallest=smallest)[0]
    values = np.rint(values * (top / 255)).astype(np.int64)
    if channels >= 3 and draw("equal channels", False, False, True):
        values = np.repeat(values[..., :1], 3, axis=2)
    if channels in (2, 4):
        alpha = draw.random.choice([0, top // 3, top], values.shape[:2])
        values = np.concatenate([np.atleast_3d(values), alpha[..., None]], axis=2)
    return values


def png(draw: Draw) -> Raster:
    """PNG of 8 and 16 bits, with alpha or a transparent value, written chunk by chunk."""
    kind, channels = draw("", (0, 1), (2, 3), (4, 2), (6, 4))
    bits = draw("bits", 8, 16)
    top = draw("top", (1 << bits) - 1, 4095 if bits == 16 else 255)
    draw.words.append(f"{channels} channels")
    values = samples(draw, top, channels)
    full = (1 << bits) - 1
    if channels in (2, 4):
        values[..., -1] = values[..., -1] * full // top
    height, width = values.shape[:2]
    rows = values.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if channels in (1, 3) and draw("transparent value", False, True):
        chunks.append((b"tRNS", np.atleast_1d(values[height // 2, width // 2]).astype(">u2").tobytes()))
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    path = draw.folder / "drawn.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))
    return Raster(path, "png", full, tolerance=1)


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(draw: Draw) -> Raster:
    """TIFF of 8 and 16 bits by tifffile or Pillow, all orientations, both byte orders, strips, tiles, alpha."""
    orientation = draw("orientation", 1, 2, 3, 4, 5, 6, 7, 8)
    path = draw.folder / "drawn.tif"
    if draw("by", "tifffile", "pillow") == "pillow":
        bits, channels = draw("", (8, 1), (16, 1), (8, 3))
        draw.words.append(f"{bits} bits, {channels} channels")
        values = samples(draw, (1 << bits) - 1, channels).astype(f"u{bits // 8}")
        compression = draw("compression", "raw", "tiff_lzw", "packbits", "tiff_deflate")
        PillowImage.fromarray(values).save(path, "TIFF", compression=compression, tiffinfo={274: orientation})
        return Raster(path, "tiff", (1 << bits) - 1, orientation)
    bits, channels = draw("bits", 8, 16), draw("channels", 1, 3, 4)
    values = samples(draw, (1 << bits) - 1, channels).astype(f"u{bits // 8}")
    tifffile.imwrite(
        path,
        values,
        byteorder=draw("order", "<", ">"),
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression=draw("", None, "zlib"),
        rowsperstrip=draw("rows of a strip", None, 5),
        metadata=None,
        extratags=[(274, "H", 1, orientation, True)],
    )
    return Raster(path, "tiff", (1 << bits) - 1, orientation, tolerance=1 if channels == 4 else 0)


def pnm(draw: Draw) -> Raster:
    """PGM and PPM of 8 bits, and of 10 to 16 bits with the highest value that they declare."""
    top, channels = draw("top", 255, 1023, 4095, 16383, 65535), draw("channels", 1, 3)
    values = samples(draw, top, channels)
    path = draw.folder / f"drawn.{'ppm' if channels == 3 else 'pgm'}"
    head = f"P{6 if channels == 3 else 5}\n{values.shape[1]} {values.shape[0]}\n{top}\n"
    path.write_bytes(head.encode() + values.astype(">u2" if top > 255 else "u1").tobytes())
    return Raster(path, "ppm" if channels == 3 else "pgm", top)


def jp2(draw: Draw) -> Raster:
    """JP2 files of 8 to 16 bits, grey and colour; of 16 bits with tiles and an image area beside the origin."""
    path = draw.folder / "drawn.jp2"
    if draw("tiles beside the origin", False, False, True):
        values = samples(draw, 65535, 1, 9).astype(np.uint16)
        path.write_bytes(j2k_by_pillow(values, False, (16, 24), (5, 3), boxed=True))
        return Raster(path, "jpeg2000", 65535)
    bits, channels = draw("bits", 8, 10, 12, 14, 16), draw("channels", 1, 3)
    values = samples(draw, (1 << bits) - 1, channels, SMALLEST_OPENJPEG)
    values = np.ascontiguousarray(values.astype("u1" if bits == 8 else "u2"))
    path.write_bytes(encode_array(values, bits, photometric_interpretation=1 if channels == 3 else 2, codec_format=1))
    return Raster(path, "jpeg2000", (1 << bits) - 1)


def by_pillow(draw: Draw) -> Raster:
    """BMP, GIF, lossless WebP, and sequential and progressive JPEG, by Pillow."""
    kind, decoder = draw("", ("BMP", "bmp"), ("GIF", "gif"), ("WEBP", "webp"), ("JPEG", "mjpeg"))
    draw.words.append(kind)
    channels = draw("channels", 1, 3)
    values = samples(draw, 255, 3 if kind == "WEBP" else channels).astype(np.uint8)
    how = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0, "progressive": draw("", False, True)}}
    out = io.BytesIO()
    PillowImage.fromarray(values).save(out, kind, **how.get(kind, {}))
    path = draw.folder / f"drawn.{kind.lower()}"
    path.write_bytes(out.getvalue())
    return Raster(path, decoder, 255, tolerance=4 if kind == "JPEG" else 0)


FAMILIES = {"PNG": png, "TIFF": tiff, "PNM": pnm, "JPEG 2000 file": jp2, "BMP, GIF, WebP, JPEG": by_pillow}


def draw_raster(family, seed, folder):
    """Return a drawn raster file and its choices in words; the same seed gives the same one."""
    draw = Draw((seed, 100 + list(FAMILIES).index(family)), folder)
    return FAMILIES[family](draw), draw.words


def witness(raster: Raster) -> np.ndarray:
    """Return the pixels of a raster file by ffmpeg, upright, alpha over black, grey where all channels are equal.

    Returns:
        Integers 0 .. top, [H, W] or RGB [H, W, 3].
    """
    context = av.CodecContext.create(raster.decoder, "r")
    try:
        frame = [*context.decode(av.Packet(raster.path.read_bytes())), *context.decode(None)][0]
    except (av.FFmpegError, IndexError) as error:
        raise NoWitness(f"ffmpeg: {error!r}") from None
    values, full = _values(frame)
    if raster.decoder == "jpeg2000":
        # Samples lie at the top of their words; others are stretched.
        full = raster.top * ((full + 1) // (raster.top + 1))
    values = np.rint(values * (raster.top / full)).astype(np.int64)
    if values.ndim == 3 and values.shape[2] in (2, 4):
        alpha = values[..., -1:]
        values = np.rint(values[..., :-1] * (alpha / raster.top)).astype(np.int64)
    if values.ndim == 3 and np.all(values == values[..., :1]):
        values = values[..., 0]
    return UPRIGHT[raster.orientation](values)


def _values(frame):
    """Return a frame's samples, [H, W (, channels)], red first and alpha last, and their highest possible value."""
    name = frame.format.name
    if name.startswith("ya"):
        # PyAV has no array of grey with alpha.
        plane = frame.planes[0]
        kind = np.dtype({"ya8": "u1", "ya16le": "<u2", "ya16be": ">u2"}[name])
        rows = np.frombuffer(bytes(plane), kind).reshape(frame.height, plane.line_size // kind.itemsize)
        values = rows[:, : 2 * frame.width].reshape(frame.height, frame.width, 2).astype(np.int64)
        return values, (1 << 8 * kind.itemsize) - 1
    if name in ("pal8", "bgr24", "argb", "bgra") or name.startswith("yuv"):
        name = "rgba" if name in ("pal8", "argb", "bgra") else "rgb24"
    values = frame.to_ndarray(format=name).astype(np.int64)
    return values, 65535 if "16" in name or "48" in name or "64" in name else 255
