"""One frame into a codestream, by an encoder that the variant draws."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from openjpeg.utils import encode_array
from PIL import Image as PillowImage
from witnesses import NoWitness, run

#: OpenJPEG's encoder always makes six resolutions, which smaller pictures cannot have.
SMALLEST_OPENJPEG = 32


def jpeg(values, subsampling="4:4:4", rgb=False, quality=92):
    """Return a baseline JPEG by Pillow. values: uint8 [H, W] or [H, W, 3]; rgb: without the colour transform."""
    out = io.BytesIO()
    colour = {"subsampling": subsampling, "keep_rgb": rgb} if values.ndim == 3 else {}
    PillowImage.fromarray(values).save(out, "JPEG", quality=quality, **colour)
    return out.getvalue()


def j2k_by_openjpeg(values, bits, signed, transform, ratio=None):
    """Return a JPEG 2000 codestream by OpenJPEG, at least 32 x 32.

    Args:
        values: Integers [H, W] or [H, W, 3].
        bits, signed: Of the stream.
        transform: Whether colour is transformed (RCT, ICT).
        ratio: Compression ratio of a lossy stream.
    """
    kind = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    lossy = {"compression_ratios": [ratio]} if ratio else {}
    photometric = 1 if values.ndim == 3 else 2
    samples = np.ascontiguousarray(values.astype(kind))
    return encode_array(samples, bits_stored=bits, photometric_interpretation=photometric, use_mct=transform, **lossy)


def j2k_by_pillow(values, transform, tile=None, offset=(0, 0), boxed=False):
    """Return a lossless JPEG 2000 codestream, or file, of any size.

    Args:
        values: uint8 [H, W (, 3)] or uint16 [H, W].
        transform: Whether colour is transformed.
        tile: Width and height of a tile, None for a single one.
        offset: Where the image area begins on the reference grid; needs tiles.
        boxed: Make a JP2 file.
    """
    out = io.BytesIO()
    tiles = {"tile_size": tile, "offset": offset} if tile else {}
    resolutions = 1 + int(min(values.shape[:2]) > 8)
    picture = PillowImage.fromarray(values)
    picture.save(out, "JPEG2000", no_jp2=not boxed, mct=int(transform), num_resolutions=resolutions, **tiles)
    return out.getvalue()


def j2k_by_ffmpeg(values):
    """Return a lossless JPEG 2000 codestream by libavcodec. values: uint8 [H, W (, 3)] or uint16 [H, W]."""
    layout = {("u1", 2): "gray", ("u1", 3): "rgb24", ("u2", 2): "gray16le"}[values.dtype.str[1:], values.ndim]
    encoder = av.CodecContext.create("jpeg2000", "w")
    encoder.height, encoder.width = values.shape[:2]
    encoder.pix_fmt, encoder.time_base = layout, Fraction(1, 25)
    encoder.options = {"pred": "dwt53", "format": "j2k"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), format=layout)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def htj2k(values, bits, signed, transform, folder, step=None, order="RPCL"):
    """Return an HTJ2K codestream by OpenJPH. Arguments as in `j2k_by_openjpeg`; step: quantisation, lossy."""
    unsigned = values.astype(np.int64) + ((1 << (bits - 1)) if signed else 0)
    kind = ">u2" if bits > 8 else "u1"
    source = Path(folder) / ("encoder.ppm" if values.ndim == 3 else "encoder.pgm")
    head = f"P{6 if values.ndim == 3 else 5}\n{values.shape[1]} {values.shape[0]}\n{(1 << bits) - 1}\n"
    source.write_bytes(head.encode() + unsigned.astype(kind).tobytes())
    out = source.with_suffix(".j2c")
    how = ["-reversible", "false", "-qstep", step] if step else ["-reversible", "true"]
    colour = ["-colour_trans", str(transform).lower()] if values.ndim == 3 else []
    run("ojph_compress", "-i", source, "-o", out, *how, *colour, "-prog_order", order, "-num_decomps", 3)
    stream = bytearray(out.read_bytes())
    if signed:
        # The program writes unsigned samples only; a signed stream differs in the sign bits of its SIZ alone.
        for component in range(3 if values.ndim == 3 else 1):
            stream[42 + 3 * component] |= 128
    return bytes(stream)


def recode(program, source, target, *options):
    """Return the DICOM file that a compressor of DCMTK makes of another. Raises NoWitness."""
    run(program, "-q", "+un" if program != "dcmcrle" else "-q", *options, source, target)
    if not target.exists():
        raise NoWitness(f"{program} wrote nothing")
    return target
