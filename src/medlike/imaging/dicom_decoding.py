"""Decode frames of DICOM pixel data to stored values: grey, palette or RGB.

The codestream decides, not the header (PS3.5 8.2.1 to 8.2.4): which coding it is, its size, components, precision,
sign and colour. What the header says is used where the codestream leaves something open: the sign of JPEG and JPEG-LS,
and which bits of a container of 8 or 16 bits are stored.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace

import libjpeg
import numpy as np
import openjpeg
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.pixels.processing import apply_color_lut

from medlike.errors import ImageError
from medlike.imaging.arrays import kept_type
from medlike.imaging.codestream import Codestream, read_codestream
from medlike.imaging.dicom_colour import colour_of, to_rgb
from medlike.imaging.dicom_frames import frame_bytes, frame_spans
from medlike.imaging.dicom_header import DEFLATED_FRAMES, PixelHeader, is_encapsulated
from medlike.imaging.dicom_samples import native_frame, stored_values
from medlike.imaging.jpeg2000 import without_offset
from medlike.imaging.limits import CONVERTED, DECODED_JPEG_2000, check_size
from medlike.types import JsonObject

Decode = Callable[[int], tuple[np.ndarray, int]]

_CONTAINERS = (8, 16)


def frame_decoder(dataset: Dataset, header: PixelHeader) -> Decode:
    """Return a function from a frame's number to its pixels and their bits.

    Args:
        dataset: an opened file, from which the function takes frame after frame.
        header: what its header says of them.

    Returns:
        decode(frame), frame 0-based, gives the pixels, uint8, uint16, int16 or float32, [H, W] or RGB [H, W, 3], and
        how many bits of a sample are stored. It raises ImageError for what is damaged or undecidable.

    Raises:
        ImageError: the pixel data cannot be split into frames.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    data = dataset[header.keyword].value
    if not is_encapsulated(dataset):
        words = dataset[header.keyword].VR == "OW"
        little = syntax.is_little_endian
        return lambda frame: _finish(dataset, header, native_frame(data, frame, len(data), header, little, words), None)
    extended = bytes(dataset.get("ExtendedOffsetTable") or b"")
    spans = frame_spans(data, header.frames, extended)

    def decode(frame: int) -> tuple[np.ndarray, int]:
        if frame >= len(spans):
            raise ImageError(
                f"frame {frame} is not there: the header says {header.frames} frames, the pixel data has {len(spans)}"
            )
        compressed = frame_bytes(data, spans[frame])
        if not compressed:
            raise ImageError(f"frame {frame} is empty")
        if syntax == DEFLATED_FRAMES:
            return _finish(dataset, header, _inflated(compressed, header), None)
        if syntax == uid.RLELossless:
            return _finish(dataset, header, _run_lengths(compressed, header), None)
        codestream = _checked(read_codestream(compressed), header)
        return _finish(dataset, header, _decompressed(codestream), codestream)

    return decode


def _finish(
    dataset: Dataset, header: PixelHeader, samples: np.ndarray, codestream: Codestream | None
) -> tuple[np.ndarray, int]:
    """Return samples as stored values, colour as RGB."""
    if samples.dtype.kind == "f":
        return kept_type(samples), header.allocated
    pixels, bits = _values(samples, header, codestream)
    if pixels.ndim == 3:
        if colour_of(codestream, header.interpretation) == "YCC":
            pixels = to_rgb(pixels, bits)
    elif header.interpretation == "PALETTE COLOR":
        pixels = _coloured(pixels, dataset)
    elif not header.interpretation.startswith("MONOCHROME") and header.samples == 1:
        raise ImageError(
            f"the header says {header.interpretation} of 1 sample a pixel: MONOCHROME1, MONOCHROME2 and PALETTE COLOR "
            "are read"
        )
    if pixels.dtype.itemsize > 2:
        return pixels.astype(np.float32), bits
    return kept_type(pixels), bits


def _values(samples: np.ndarray, header: PixelHeader, codestream: Codestream | None) -> tuple[np.ndarray, int]:
    """Return the stored bits of samples with their sign, and how many they are.

    A codestream of 8 or 16 bits may be a mere container of fewer stored bits, which the header then tells (PS3.5
    8.1.1): other bits are cut off, if the coding loses nothing. Lossy coding overshoots, so that no bit there has a
    meaning of its own; its values stay as they come. Any other precision is chosen by the encoder, and holds.
    """
    grey = samples.ndim == 2
    if codestream is None:
        stored, high = header.stored, header.high
        width = 8 * samples.dtype.itemsize
        if width < header.allocated:
            stored, high = min(stored, width), min(stored, width) - 1
        if header.allocated == 1:
            return samples, 1
        return stored_values(samples, stored, high, header.signed and grey), stored
    signed = header.signed and grey
    bits, high = codestream.bits, codestream.bits - 1
    extends = signed and not codestream.signed
    if bits in _CONTAINERS and header.stored < bits and (codestream.lossless or extends):
        high = header.high if header.high < bits else header.stored - 1
        bits = header.stored
    if codestream.signed:
        if not grey:
            raise ImageError("the components of the JPEG 2000 codestream are colours with a sign: they are not read")
        # A codestream with a sign and a header without one agree on values that are not negative.
        signed = signed or bool(samples.min() < 0)
    return stored_values(samples, bits, high, signed), bits


def _checked(codestream: Codestream, header: PixelHeader) -> Codestream:
    """Return a codestream that agrees with the header in size, before a decoder may allocate memory for it."""
    sample = DECODED_JPEG_2000 if codestream.coding == "JPEG 2000" else CONVERTED
    check_size(codestream.height, codestream.width, codestream.components * sample)
    if (codestream.height, codestream.width) != (header.rows, header.columns):
        raise ImageError(
            f"the header says {header.columns} x {header.rows}, the compressed frame is "
            f"{codestream.width} x {codestream.height}"
        )
    if codestream.components not in (1, 3):
        raise ImageError(f"the compressed frame has {codestream.components} components: 1 and 3 are read")
    if codestream.coding == "JPEG-LS" and not codestream.lossless and codestream.bits < 8:
        # DCMTK writes and reads them otherwise than libjpeg and FFmpeg do, and nothing tells the writer.
        raise ImageError(f"near-lossless JPEG-LS of {codestream.bits} bits is not read: readers differ over it")
    if not 1 <= codestream.bits <= 32:
        raise ImageError(f"the compressed frame says {codestream.bits} bits a sample: 1 to 32 are read")
    if codestream.components == 3:
        if header.interpretation == "PALETTE COLOR":
            raise ImageError("the header says PALETTE COLOR, the compressed frame has 3 components")
        if codestream.bits > 16:
            raise ImageError(f"colour of {codestream.bits} bits a sample is not read: 16 are the most")
        colour_of(codestream, header.interpretation)
    return codestream


def _decompressed(codestream: Codestream) -> np.ndarray:
    """Return the samples of a codestream, [H, W] or [H, W, 3], as integers that hold its precision."""
    if codestream.coding == "JPEG 2000":
        return without_offset(openjpeg.decode(codestream.data, j2k_format=0), codestream)
    # 0: libjpeg applies no colour transform of its own.
    return libjpeg.decode(codestream.data, 0)


def _run_lengths(compressed: bytes, header: PixelHeader) -> np.ndarray:
    """Return the samples of an RLE frame. Its segments are the bytes of its samples (PS3.5 annex G.2)."""
    if header.allocated == 1:
        raise ImageError("RLE of 1 bit allocated is not read")
    segments = int.from_bytes(compressed[:4], "little")
    components = header.samples
    if segments == 3 and header.samples == 1 and header.interpretation in ("RGB", "YBR_FULL", "YBR_FULL_422"):
        components = 3
    elif segments in (1, 2) and header.samples == 3 and header.interpretation.startswith("MONOCHROME"):
        components = 1
    size, rest = divmod(segments, components)
    if rest or size not in (1, 2, 4) or size * 8 > header.allocated:
        raise ImageError(
            f"the RLE frame has {segments} segments; {header.samples} samples of {header.allocated} bits are "
            f"{header.samples * header.allocated // 8}"
        )
    options: JsonObject = {
        "rows": header.rows,
        "columns": header.columns,
        "samples_per_pixel": components,
        "bits_allocated": 8 * size,
        "bits_stored": 8 * size,
        "pixel_representation": 0,
        "photometric_interpretation": "RGB" if components == 3 else "MONOCHROME2",
        "planar_configuration": 1,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
    }
    # pylibjpeg's run-length decoder panics on damaged data, with a trace on stderr; pydicom's does not.
    decoder = get_decoder(uid.RLELossless)
    pixels, _ = decoder.as_array(encapsulate([compressed]), index=0, raw=True, decoding_plugin="pydicom", **options)
    return pixels


def _inflated(compressed: bytes, header: PixelHeader) -> np.ndarray:
    """Return the samples of a frame that is deflated on its own (PS3.5 A.4.13)."""
    length = (header.rows * header.columns * header.samples * header.allocated + 7) // 8
    raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, length + 2)
    return native_frame(raw, 0, len(raw), replace(header, frames=1), little=True, words=False)


def _palette(dataset: Dataset) -> Dataset:
    """Return the palette of a file, its tables as little-endian words, the only ones that pydicom reads."""
    if dataset.file_meta.TransferSyntaxUID.is_little_endian:
        return dataset
    palette = Dataset()
    palette.set_original_encoding(False, True)
    for element in dataset.group_dataset(0x0028):
        if element.VR == "OW" and isinstance(element.value, bytes):
            words = np.frombuffer(element.value, ">u2", len(element.value) // 2)
            palette.add_new(element.tag, "OW", words.astype("<u2").tobytes())
        else:
            palette.add(element)
    return palette


def _coloured(indices: np.ndarray, dataset: Dataset) -> np.ndarray:
    try:
        return apply_color_lut(indices, _palette(dataset))[..., :3]
    except Exception:  # pydicom raises what the damage happens to provoke
        raise ImageError("its palette cannot be read") from None
