"""Read the images of one file."""

import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from medlike.errors import ImageError
from medlike.imaging import memory
from medlike.imaging.frames import Choice, Frames, frame_choice
from medlike.imaging.image import Image
from medlike.imaging.signatures import DICOM_PREFIX, JPEG_2000, TIFF
from medlike.imaging.silence import reason

Kind = Literal["dicom", "raster"]

_RASTER = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF87a", b"GIF89a", *TIFF, *JPEG_2000)

#: First bytes of what is no picture, and its name in a refusal.
_OTHER = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
    b"\x5c\x01\x00\x00": "a NIfTI volume: export its slices as DICOM or PNG",
}

_SNIFFED = 512

def read(path: str | Path, frames: Frames = "middle", segmentations: bool = True) -> Iterator[Image]:
    """Return the images in a file: DICOM, PNG, JPEG, TIFF, BMP, WebP, GIF, PNM or JPEG 2000, by content, not name.

    Frames are decoded one at a time. A file damaged further on gives the images before the damage.

    Args:
        path: The file.
        frames: Which of several frames or pages: "middle" (the one at index count // 2), "all", or n: every n-th from
            the first.
        segmentations: Whether to read a DICOM segmentation object. `load` refuses it unless its source allows it.

    Raises:
        ImageError: The file cannot be used, with the reason, when the first image is requested.
    """
    choose = frame_choice(frames)
    file = Path(path)
    memory.begin()
    try:
        yield from _read(file, choose, segmentations)
    except ImageError:
        raise
    except PermissionError:
        raise ImageError("no permission to read it") from None
    except FileNotFoundError:
        missing = "it is a link to a file that is not there" if file.is_symlink() else "there is no such file"
        raise ImageError(missing) from None
    except MemoryError:
        raise ImageError("there is not enough memory to decode it") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"it cannot be read: {reason(error)}") from None


def sniff(start: bytes) -> Kind | None:
    """Return the kind of a file by its first 512 bytes: "dicom", "raster", or None for neither."""
    if start[128:132] == b"DICM":
        return "dicom"
    if start.startswith(_RASTER) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP"):
        return "raster"
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
        return "raster"
    # A preamble that is too long or too short, or none and the prefix all the same.
    return "dicom" if DICOM_PREFIX in start or _dicom_without_preamble(start) else None


def other_kind(start: bytes) -> str | None:
    """Return the kind of a file that is no picture in words, by its first 512 bytes; None if unknown."""
    for magic, name in _OTHER.items():
        if start.startswith(magic):
            return name
    text = start.removeprefix(b"\xef\xbb\xbf")
    if text and not any(byte < 9 or 13 < byte < 32 for byte in text):
        return "a text file"
    return None


def first_bytes(path: Path) -> bytes:
    """Return the first 512 bytes of a regular file. Raises ImageError for anything else, OSError as `open` does."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageError("it is a folder" if path.is_dir() else "it is not a regular file")
    with path.open("rb") as file:
        return file.read(_SNIFFED)


def _read(path: Path, choose: Choice, segmentations: bool) -> Iterator[Image]:
    start = first_bytes(path)
    if not start:
        raise ImageError("the file is empty")
    kind = sniff(start)
    if kind == "raster":
        from medlike.imaging.raster import read_raster

        yield from read_raster(path, choose)
    elif kind == "dicom":
        from medlike.imaging.dicom import read_dicom

        yield from read_dicom(path, choose, segmentations)
    else:
        what = other_kind(start)
        raise ImageError(
            f"it is {what}, not an image" if what else "it is neither DICOM nor PNG, JPEG, TIFF, BMP, WebP"
        )


def _dicom_without_preamble(start: bytes) -> bool:
    """Return True if the first element is one that a DICOM data set can begin with.

    It has group 0002 or 0008, a low element number, and an explicit value representation or a short length, in either
    byte order.
    """
    if len(start) < 8:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHI", start)
        if group in (0x0002, 0x0008) and element <= 0x0100 and (explicit or length < 1024):
            return True
    return False
