"""Decoders that share no code with medlike's: the pixels of a DICOM file as they see them.

DCMTK decodes native, RLE, JPEG and JPEG-LS; ffmpeg's own decoder (through PyAV) JPEG 2000; OpenJPH HTJ2K.
"""

import subprocess
from pathlib import Path

import av
import numpy as np
import pydicom
from files import codestreams
from pydicom import uid

JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
LOSSY_JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
IRREVERSIBLE = {"1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"}
HTJ2K = {"1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"}


#: More bits than are stored, since dcm2pnm cuts off what it inverts: with none of them, 75 may become 74.
GUARD = 8


class NoWitness(Exception):
    """The witness cannot read a file that it ought to read."""


def witness(path, folder):
    """Return a DICOM file's stored values, integer [F, H, W] or RGB [F, H, W, 3].

    Args:
        path: The file.
        folder: Folder for temporary files.
    """
    dataset = pydicom.dcmread(path, force=True)
    syntax = dataset.file_meta.get("TransferSyntaxUID", uid.ImplicitVRLittleEndian)
    if syntax not in JPEG_2000 | HTJ2K:
        return dcmtk(path, dataset, folder)
    frames = codestreams(dataset.PixelData, int(dataset.get("NumberOfFrames") or 1))
    values = np.stack([ffmpeg(frame) if syntax in JPEG_2000 else openjph(frame, folder) for frame in frames])
    if dataset.PixelRepresentation and not siz(frames[0])[1]:
        # An unsigned stream holds signed values as two's complement of the stored bits.
        half = 1 << (int(dataset.BitsStored) - 1)
        return (values & (2 * half - 1) ^ half) - half
    return values


def tolerance(dataset):
    """Return how far two right decoders of a file may differ: lossy transforms and YBR are not exact arithmetic."""
    syntax, stored = dataset.file_meta.get("TransferSyntaxUID"), int(dataset.get("BitsStored") or 8)
    if syntax in LOSSY_JPEG:
        return 3 if dataset.SamplesPerPixel == 3 else 1
    if syntax in IRREVERSIBLE:
        return 1 << max(0, stored - 12)
    return 2 if dataset.PhotometricInterpretation.startswith("YBR_FULL") else 0


def run(*command):
    """Run a program of Debian's by its full path. Raises NoWitness with its message."""
    done = subprocess.run([f"/usr/bin/{command[0]}", *map(str, command[1:])], capture_output=True, check=False)
    if done.returncode:
        raise NoWitness(f"{command[0]}: {(done.stderr or done.stdout).decode(errors='replace').strip()[-300:]}")


def dcmtk(path, dataset, folder):
    """Return stored values by DCMTK: `dcm2pnm` spreads them over more bits, which is undone."""
    syntax, photometric = dataset.file_meta.get("TransferSyntaxUID"), dataset.PhotometricInterpretation
    program = "dcmj2pnm" if syntax in JPEG else "dcml2pnm" if syntax in JPEG_LS else "dcm2pnm"
    stored = int(dataset.BitsStored)
    if photometric == "PALETTE COLOR":
        stored = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    guard = min(GUARD, 32 - stored)
    out = Path(folder) / f"{Path(path).stem}.witness"
    run(program, "-q", "-M", "-W", "-O", "+Fa", "+opn", stored + guard, path, out)
    frames = int(dataset.get("NumberOfFrames") or 1)
    shown = np.stack([pnm(out.with_name(f"{out.name}.{n}.{_ending(dataset)}")) for n in range(frames)])
    top = (1 << (stored + guard)) - 1
    if shown.ndim == 4:
        return np.rint(shown * (((1 << stored) - 1) / top)).astype(np.int64)
    if photometric == "MONOCHROME1":
        shown = top - shown
    values = np.rint(shown / (1 << guard)).astype(np.int64)
    return values - (1 << (stored - 1)) if dataset.PixelRepresentation else values


def _ending(dataset):
    return "pgm" if dataset.PhotometricInterpretation.startswith("MONO") else "ppm"


def pnm(path):
    """Return the pixels of an ASCII PGM or PPM."""
    numbers = path.read_text().split("\n")
    numbers = " ".join(line for line in numbers if not line.startswith("#")).split()
    colour, (width, height, _) = numbers[0] == "P3", (int(number) for number in numbers[1:4])
    return np.array(numbers[4:], np.int64).reshape((height, width, 3) if colour else (height, width))


def siz(codestream):
    """Return bits and sign of the first component of a JPEG 2000 codestream, and where its SIZ segment says so."""
    start = codestream.index(b"\xff\x4f\xff\x51") + 2
    size = codestream[start + 40]
    return (size & 127) + 1, bool(size & 128), start + 40


def ffmpeg(codestream):
    """Return the values of a JPEG 2000 codestream, integer [H, W] or [H, W, 3], by libavcodec's own decoder."""
    bits, signed, _ = siz(codestream)
    context = av.CodecContext.create("jpeg2000", "r")
    try:
        frame = [*context.decode(av.Packet(codestream)), *context.decode(None)][0]
    except (av.FFmpegError, IndexError) as error:
        raise NoWitness(f"ffmpeg: {error!r}") from None
    values = frame.to_ndarray().astype(np.int64)
    if "yuv444" in frame.format.name:
        values = values.transpose(1, 2, 0)
    container = 16 if "16" in frame.format.name or "48" in frame.format.name else 8
    # Samples lie at the top of their words, signed ones shifted to be unsigned.
    return (values >> (container - bits)) - ((1 << (bits - 1)) if signed else 0)


def openjph(codestream, folder):
    """Return the values of an HTJ2K codestream, integer [H, W] or [H, W, 3], by OpenJPH.

    Its program clips signed values at 0, so it reads a copy that says unsigned: the same values, higher by
    half of the range.
    """
    bits, signed, sign = siz(codestream)
    copy = bytearray(codestream[codestream.index(b"\xff\x4f\xff\x51") :])
    sign -= len(codestream) - len(copy)
    components = int.from_bytes(copy[sign - 2 : sign], "big")
    for component in range(components):
        copy[sign + 3 * component] &= 127
    source = Path(folder) / "openjph.j2c"
    source.write_bytes(copy)
    out = source.with_suffix(".ppm" if components == 3 else ".pgm")
    run("ojph_expand", "-i", source, "-o", out)
    data = out.read_bytes()
    magic, width, height, top = data[:40].split(maxsplit=4)[:4]
    shape = (int(height), int(width), 3) if magic == b"P6" else (int(height), int(width))
    kind = np.dtype(">u2" if int(top) > 255 else "u1")
    values = np.frombuffer(data[-int(np.prod(shape)) * kind.itemsize :], kind).reshape(shape).astype(np.int64)
    return values - ((1 << (bits - 1)) if signed else 0)
