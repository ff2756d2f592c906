"""DICOM files made to order: headers, encapsulated frames, fragments and offset tables."""

import struct
from itertools import pairwise

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, generate_uid

ITEM = b"\xfe\xff\x00\xe0"


def header(values, syntax, photometric, stored, allocated, signed=False, high=None):
    """Return the data set of a secondary capture without its pixel data.

    Args:
        values: Its pixels, integer [F, H, W] or [F, H, W, 3].
        syntax: Transfer syntax UID.
        photometric: Photometric interpretation.
        stored, allocated: Bits of a sample.
        signed: Whether the samples are signed.
        high: High bit, stored - 1 if absent.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SamplesPerPixel = 3 if values.ndim == 4 else 1
    dataset.PhotometricInterpretation = photometric
    if values.ndim == 4:
        dataset.PlanarConfiguration = 0
    if len(values) > 1:
        dataset.NumberOfFrames = len(values)
    dataset.Rows, dataset.Columns = values.shape[1:3]
    dataset.BitsAllocated, dataset.BitsStored = allocated, stored
    dataset.HighBit = stored - 1 if high is None else high
    dataset.PixelRepresentation = int(signed)
    return dataset


def save(dataset, path):
    """Write a data set as a DICOM file and return its path."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def words(values, bits, junk=None, shift=0):
    """Return samples as unsigned integers of 8, 16 or 32 bits, two's complement within `bits`.

    Args:
        values: Integers, any shape.
        bits: (stored, allocated).
        junk: Integers of the same shape that fill the bits outside of the stored ones, or None for zeros.
        shift: Unused bits below the stored ones.
    """
    stored, allocated = bits
    mask = ((1 << stored) - 1) << shift
    samples = (values.astype(np.int64) << shift) & mask
    if junk is not None:
        samples |= junk.astype(np.int64) & ((1 << allocated) - 1) & ~mask
    return samples.astype(f"u{allocated // 8}")


def encapsulate(frames, pieces=1, table="basic"):
    """Return encapsulated pixel data, and the offsets and lengths of an extended offset table.

    Args:
        frames: Compressed frames, bytes.
        pieces: Fragments of a frame.
        table: Basic offset table: "none", "basic", "extended", or a lie: "zeros", "beside" (six bytes off).
    """
    body, offsets, lengths = b"", [], []
    for frame in frames:
        frame += b"\0" * (len(frame) % 2)
        offsets.append(len(body))
        lengths.append(len(frame))
        cuts = sorted({0, len(frame), *(len(frame) * piece // pieces // 2 * 2 for piece in range(1, pieces))})
        for start, end in pairwise(cuts):
            body += ITEM + struct.pack("<I", end - start) + frame[start:end]
    tables = {
        "none": [], "extended": [], "basic": offsets,
        "zeros": [0] * len(frames), "beside": [offset + 6 for offset in offsets],
    }
    basic = struct.pack(f"<{len(tables[table])}I", *tables[table])
    data = ITEM + struct.pack("<I", len(basic)) + basic + body
    return data, (struct.pack(f"<{len(frames)}Q", *offsets), struct.pack(f"<{len(frames)}Q", *lengths))


def fill(dataset, frames, pieces=1, table="basic"):
    """Put compressed frames into a data set, as `encapsulate` does."""
    dataset.PixelData, (offsets, lengths) = encapsulate(frames, pieces, table)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    if table == "extended":
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths


def fragments(data):
    """Return the fragments of encapsulated pixel data, the offset table left out."""
    parts, position = [], 0
    while data[position : position + 4] == ITEM:
        length = struct.unpack("<I", data[position + 4 : position + 8])[0]
        parts.append(data[position + 8 : position + 8 + length])
        position += 8 + length
    return parts[1:]


def codestreams(data, frames):
    """Return the compressed frames of encapsulated pixel data: a fragment that begins a codestream begins a frame."""
    parts = fragments(data)
    if len(parts) == frames:
        return parts
    if frames == 1:
        return [b"".join(parts)]
    joined = []
    for part in parts:
        if part[:2] in (b"\xff\x4f", b"\xff\xd8") or part[4:8] == b"jP  ":
            joined.append(part)
        else:
            joined[-1] += part
    return joined
