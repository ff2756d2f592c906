"""DICOM files into images: opened, checked against their own header, decoded frame by frame."""

import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import get_decoder, iter_pixels
from pydicom.pixels.processing import apply_color_lut

from medlike.errors import ImageError
from medlike.imaging.arrays import kept_type
from medlike.imaging.codestream import frame_size
from medlike.imaging.dicom_facts import identifiers, metadata, spacing, texts
from medlike.imaging.dicom_photometry import photometry
from medlike.imaging.image import Image
from medlike.imaging.limits import MAX_INFLATED_BYTES, check_size
from medlike.imaging.silence import reason, silence

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

#: Supplement 244: each frame deflated on its own. pydicom has no decoder for it.
DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"


def read_dicom(path: Path, choose) -> Iterator[Image]:
    """The frames of a DICOM file as images. choose: frame count to the 0-based frames wanted, ascending.

    One frame is held at a time. Raises ImageError with the reason; frames before the fault have been given
    by then.
    """
    with silence():
        try:
            dataset = _open(path)
            rows, columns, frames = _check(dataset)
            known = metadata(dataset)
            who = identifiers(dataset)
            words, replaced = texts(dataset, who)
        except (ImageError, OSError):
            raise
        except Exception as error:
            raise ImageError(f"the DICOM header cannot be used: {reason(error)}") from None
    for frame in choose(frames):
        with silence():
            try:
                pixels = _decode(dataset, frame, frames, rows, columns)
                shown, remarks = photometry(dataset, frame, pixels)
                apart = spacing(dataset, frame)
            except ImageError:
                raise
            except Exception as error:
                raise ImageError(_why_not_decoded(dataset, frame, error)) from None
        yield Image(
            pixels,
            shown,
            spacing=apart,
            frame=frame,
            frames=frames,
            metadata=dict(known),
            texts=dict(words),
            replaced=replaced,
            identifiers=dict(who),
            path=str(path),
            remarks=remarks,
        )


def _open(path: Path) -> Dataset:
    with path.open("rb") as file:
        source: BinaryIO = file
        inflated = _inflated_size(file)
        if inflated is not None and inflated > MAX_INFLATED_BYTES:
            raise ImageError(f"the deflated file unpacks to more than {MAX_INFLATED_BYTES >> 30} GiB")
        file.seek(0)
        if inflated is None:
            # Elements point into the source; the pixels are decoded after the file is closed.
            source = BytesIO(file.read())
        dataset = dcmread(source, force=True)
        if len(dataset) == 0:
            # pydicom gives nothing at all of a file that ends inside of an element.
            source.seek(0)
            header = dcmread(source, force=True, stop_before_pixels=True)
            if len(header) > 0:
                raise ImageError("the file ends inside of its pixel data: it is truncated")
            raise ImageError("no DICOM element can be read from it")
    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        meta = dataset.file_meta = FileMetaDataset()
    if not meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        if implicit:
            meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        else:
            meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    return dataset


def _inflated_size(file: BinaryIO) -> int | None:
    """Bytes that a deflated file unpacks to (counted up to the limit), None for any other file."""
    try:
        file.seek(128)
        if file.read(4) != b"DICM":
            return None
        meta = read_file_meta_info(file.name)
        if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
            return None
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        unpack, total, block = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while total <= MAX_INFLATED_BYTES and (block := unpack.unconsumed_tail or file.read(1 << 20)):
            total += len(unpack.decompress(block, 1 << 24))
        return total
    except (OSError, zlib.error, AttributeError, ValueError):
        # pydicom says below what is wrong with it.
        return None


def _check(dataset: Dataset) -> tuple[int, int, int]:
    """Rows, columns and frames of what can be decoded; ImageError for the rest, before decoding."""
    if not any(keyword in dataset for keyword in PIXELS):
        raise ImageError(_why_no_pixels(dataset))
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        if not isinstance(dataset.get(keyword), int):
            raise ImageError(f"the header says no {keyword}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    check_size(rows, columns)
    if not any(dataset.get(keyword) for keyword in PIXELS):
        raise ImageError("the pixel data is empty")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames < 1:
        raise ImageError(f"the header says {frames} frames")
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if samples not in (1, 3):
        raise ImageError(
            f"{samples} samples a pixel are no picture: 1 (grey, palette) and 3 (colour) are read"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DEFLATED_FRAMES:
        return rows, columns, frames
    try:
        get_decoder(syntax)
    except NotImplementedError:
        kind = (
            "is video" if any(word in syntax.name for word in ("MPEG", "HEVC", "SMPTE")) else "is not decoded"
        )
        raise ImageError(f"transfer syntax {syntax.name} {kind}: convert it to an uncompressed one") from None
    if not syntax.is_encapsulated:
        _check_length(dataset, rows, columns, samples, frames)
    return rows, columns, frames


def _check_length(dataset: Dataset, rows: int, columns: int, samples: int, frames: int) -> None:
    if "PixelData" not in dataset:
        return
    frame = rows * columns * samples * int(dataset.BitsAllocated) // 8
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        frame = frame * 2 // 3
    held = len(dataset.PixelData)
    # A little padding at the end is common; a frame's worth means that the header lies about the size.
    if held - frame * frames >= max(frame, 4):
        raise ImageError(
            f"the header says {frames} frame(s) of {columns} x {rows}, {frame * frames} bytes, "
            f"but the pixel data has {held} bytes"
        )


def _decode(dataset: Dataset, frame: int, frames: int, rows: int, columns: int) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == DEFLATED_FRAMES:
        pixels = _inflate_frame(dataset, frame, frames, rows, columns)
    else:
        if syntax.is_encapsulated:
            _check_codestream(get_frame(dataset.PixelData, frame, number_of_frames=frames), rows, columns)
        # pylibjpeg's run-length decoder panics on damaged data, with a trace on stderr; pydicom's does not.
        plugin = "pydicom" if syntax == uid.RLELossless else ""
        pixels = _one(iter_pixels(dataset, indices=[frame], decoding_plugin=plugin))
    if pixels.shape[:2] != (rows, columns):
        raise ImageError(
            f"the header says {columns} x {rows}, the pixels are {pixels.shape[1]} x {pixels.shape[0]}"
        )
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)[..., :3]
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2:
        return pixels.astype(np.float32)
    return kept_type(pixels)


def _one(frames: Iterable[np.ndarray]) -> np.ndarray:
    for pixels in frames:
        return pixels
    raise ImageError("the frame is not there")


def _check_codestream(data: bytes, rows: int, columns: int) -> None:
    """A compressed frame must agree with the header before a decoder may allocate memory for it."""
    size = frame_size(data)
    if size is not None and size != (rows, columns):
        check_size(*size)
        raise ImageError(f"the header says {columns} x {rows}, the compressed frame is {size[1]} x {size[0]}")


def _inflate_frame(dataset: Dataset, frame: int, frames: int, rows: int, columns: int) -> np.ndarray:
    bits, samples = int(dataset.BitsAllocated), int(dataset.get("SamplesPerPixel") or 1)
    length = (rows * columns * samples * bits + 7) // 8
    data = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, length + 2)
    if len(raw) < length:
        raise ImageError(f"frame {frame} unpacks to {len(raw)} bytes, {length} are needed")
    if bits == 1:
        flat = np.unpackbits(np.frombuffer(raw, np.uint8, length), bitorder="little")[: rows * columns]
    else:
        kind = "i" if dataset.get("PixelRepresentation") == 1 else "u"
        flat = np.frombuffer(raw, f"<{kind}{bits // 8}", rows * columns * samples)
    if samples == 1:
        return flat.reshape(rows, columns)
    if dataset.get("PlanarConfiguration") == 1:
        return flat.reshape(samples, rows, columns).transpose(1, 2, 0)
    return flat.reshape(rows, columns, samples)


def _why_no_pixels(dataset: Dataset) -> str:
    storage = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    if storage == MEDIA_STORAGE_DIRECTORY or "DirectoryRecordSequence" in dataset:
        return "it is a DICOMDIR, a directory of images: give the folder instead"
    if storage:
        return f"it holds no pixel data ({uid.UID(storage).name})"
    return f"it holds no pixel data{_of_modality(dataset)}"


def _of_modality(dataset: Dataset) -> str:
    return f" (modality {dataset.Modality})" if dataset.get("Modality") else ""


def _why_not_decoded(dataset: Dataset, frame: int, error: Exception) -> str:
    words = reason(error)
    marker = "by all available plugins:"
    if marker in words:
        words = words.split(marker, 1)[1].strip()
    return f"frame {frame} cannot be decoded ({dataset.file_meta.TransferSyntaxUID.name}): {words}"
