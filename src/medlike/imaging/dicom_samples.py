"""Samples of a frame as the file has them: native bytes, and the bits of a sample that are its value."""

import numpy as np

from medlike.errors import ImageError
from medlike.imaging.dicom_header import PixelHeader, is_subsampled


def native_frame(data: bytes, frame: int, size: int, header: PixelHeader, little: bool, words: bool) -> np.ndarray:
    """Return the samples of one uncompressed frame.

    Single bits run on across the borders of frames (PS3.5 8.1.1). Bytes and bits written as words (OW) in big
    endian are swapped in pairs (PS3.5 8.1.1, annex A.3).

    Args:
        data: the pixel data, from its first frame on.
        frame: 0-based.
        size: bytes of all frames together, to tell subsampled chroma.
        header: what the header says.
        little: whether the bytes are little endian.
        words: whether the value representation is OW.

    Returns:
        Unsigned integers, [H, W] or [H, W, 3], with all their allocated bits; or floats, as Float Pixel Data has them.

    Raises:
        ImageError: the data end before the frame does, or its bits come in no size that is read.
    """
    subsampled = is_subsampled(header, size)
    if subsampled and (header.columns % 2 or header.allocated != 8):
        raise ImageError(f"YBR_FULL_422 of {header.columns} columns and {header.allocated} bits cannot be read")
    sizes = {"PixelData": (1, 8, 16, 32), "FloatPixelData": (32,), "DoubleFloatPixelData": (64,)}[header.keyword]
    if header.allocated not in sizes:
        raise ImageError(f"{header.keyword} of {header.allocated} bits allocated is not read: {sizes} are")
    count = header.rows * header.columns * header.samples
    count = count * 2 // 3 if subsampled else count
    start = frame * count * header.allocated
    stop = start + count * header.allocated
    low, high = start // 8, (stop + 7) // 8
    if high > len(data):
        raise ImageError(
            f"the pixel data ends inside frame {frame}: {len(data)} bytes, {high} are needed; it is truncated"
        )
    if not little and words and header.allocated <= 8:
        aligned = low - low % 2
        pairs = np.frombuffer(data, np.uint8, (high - aligned + 1) // 2 * 2, aligned).reshape(-1, 2)
        raw = pairs[:, ::-1].reshape(-1)[low - aligned :][: high - low]
    else:
        raw = np.frombuffer(data, np.uint8, high - low, low)
    if header.allocated == 1:
        samples = np.unpackbits(raw, bitorder="little")[start % 8 :][:count]
    else:
        kind = "u" if header.keyword == "PixelData" else "f"
        samples = raw.view(f"{'<' if little else '>'}{kind}{header.allocated // 8}")
    return _upsampled(samples, header) if subsampled else _shaped(samples, header)


def _shaped(samples: np.ndarray, header: PixelHeader) -> np.ndarray:
    if header.samples == 1:
        return samples.reshape(header.rows, header.columns)
    if header.planar:
        return samples.reshape(3, header.rows, header.columns).transpose(1, 2, 0)
    return samples.reshape(header.rows, header.columns, 3)


def _upsampled(samples: np.ndarray, header: PixelHeader) -> np.ndarray:
    """Expand Y Y Cb Cr of each two pixels to Y Cb Cr of each (PS3.3 C.7.6.3.1.2)."""
    pairs = samples.reshape(header.rows, header.columns // 2, 4)
    pixels = np.empty((header.rows, header.columns // 2, 2, 3), samples.dtype)
    pixels[..., 0] = pairs[..., :2]
    pixels[..., 1:] = pairs[:, :, None, 2:]
    return pixels.reshape(header.rows, header.columns, 3)


def stored_values(samples: np.ndarray, stored: int, high: int, signed: bool) -> np.ndarray:
    """Return the values of samples: their stored bits alone, with their sign.

    Bits above High Bit and below the stored ones may hold overlays or anything else; they are never part of a
    value. Source: PS3.5 8.1.1, 8.1.2.

    Args:
        samples: integers of any shape.
        stored: bits of a value, 1 .. the width of a sample.
        high: its most significant bit, 0-based.
        signed: whether that bit is the sign.

    Returns:
        Integers of the same width and shape, in this machine's byte order.
    """
    width = 8 * samples.dtype.itemsize
    size = samples.dtype.itemsize
    raw = np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
    unsigned = raw.view(f"u{size}")
    if stored == width:
        return raw.view(f"i{size}") if signed else unsigned
    shift = high + 1 - stored
    if not signed:
        return (unsigned >> shift if shift else unsigned) & unsigned.dtype.type((1 << stored) - 1)
    return (unsigned << (width - 1 - high)).view(f"i{size}") >> (width - stored)
