"""Read the facts that a compressed frame states, without decoding it.

PS3.5 8.2.1 to 8.2.4 and A.4 leave to the codestream what it can state: size, components, precision, sign and
colour transform. The header only repeats it, and is often wrong.
"""

import struct
from dataclasses import dataclass
from typing import Literal

from medlike.errors import ImageError
from medlike.imaging.signatures import JPEG_2000

Coding = Literal["JPEG", "JPEG-LS", "JPEG 2000"]
Colour = Literal["RGB", "YCC"]

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_JP2, _START_OF_CODESTREAM = JPEG_2000

#: Start-of-frame markers of JPEG (ITU-T T.81 table B.1) and of JPEG-LS (T.87).
_JPEG_LS_FRAME = 0xF7
_FRAME_MARKERS = {*range(0xC0, 0xD0), _JPEG_LS_FRAME} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = (0xC0, 0xC1)
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_APP0, _APP8, _APP14, _SCAN, _END = 0xE0, 0xE8, 0xEE, 0xDA, 0xD9
_NUMBER_OF_LINES = b"\xff\xdc\x00\x04"

_CODING_STYLE, _START_OF_TILE = 0x52, 0x90


@dataclass(frozen=True)
class Codestream:
    """The header of one compressed frame.

    coding: which standard. height, width: pixels. components: samples a pixel. bits: precision of a sample.
    signed: the samples are two's complement (JPEG 2000 only). lossless: the coding loses nothing, so that every bit
    of a sample means what it meant to the writer. colour: how three components are to be understood after decoding,
    None where the codestream leaves that open. data: the codestream as a decoder takes it.
    """

    coding: Coding
    height: int
    width: int
    components: int
    bits: int
    signed: bool
    lossless: bool
    colour: Colour | None
    data: bytes


def starts_codestream(data: bytes | memoryview) -> bool:
    """Return whether data begins as a JPEG, JPEG-LS or JPEG 2000 frame does (PS3.5 A.4.1 to A.4.4)."""
    start = bytes(data[:12])
    return start.startswith((_START_OF_IMAGE, _START_OF_CODESTREAM, _JP2))


def read_codestream(data: bytes) -> Codestream:
    """Return what a JPEG, JPEG-LS or JPEG 2000 frame says of itself.

    Args:
        data: one compressed frame, whole.

    Returns:
        Its header. A JP2 wrapper is cut off (PS3.5 A.4.4 forbids it); a JPEG scan header whose spectral selection is
        0 .. 0 in a sequential process is set to 0 .. 63, the only value that T.81 table B.3 allows there.

    Raises:
        ImageError: the data are no such codestream, or end inside its header.
    """
    try:
        if data.startswith(_START_OF_IMAGE):
            return _jpeg(data)
        start = _in_boxes(data) if data.startswith(_JP2[:4]) else 0
        if data.startswith(_START_OF_CODESTREAM, start):
            return _jpeg_2000(data[start:])
    except (struct.error, IndexError):
        raise ImageError("the compressed frame ends inside its own header: it is truncated") from None
    raise ImageError("the compressed frame is no JPEG, JPEG-LS or JPEG 2000 codestream: it is damaged")


def _jpeg(data: bytes) -> Codestream:
    position, process, frame = 2, 0, b""
    applications: list[tuple[int, bytes]] = []
    while True:
        if data[position] != 0xFF:
            raise ImageError(f"the JPEG header is damaged at byte {position}: a marker is expected there")
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            position += 2
            continue
        if marker == _END:
            raise ImageError("the JPEG codestream has no scan: it is damaged")
        (length,) = struct.unpack_from(">H", data, position + 2)
        content = data[position + 4 : position + 2 + length]
        if marker == _SCAN:
            break
        if marker in _FRAME_MARKERS and not process:
            process, frame = marker, content
        elif _APP0 <= marker <= _APP14 + 1:
            applications.append((marker, content))
        position += 2 + length
    if data.find(_END_OF_IMAGE, position) < 0:
        # Decoders fill up what is missing: nothing would tell that picture from a whole one.
        raise ImageError("the JPEG codestream has no end: it is truncated")
    if not process:
        raise ImageError("the JPEG codestream has no frame header: it is damaged")
    bits, height, width, components = struct.unpack_from(">BHHB", frame)
    if height == 0:
        height = _number_of_lines(data, position)
    identifiers = [frame[6 + 3 * k] for k in range(components)]
    sampling = {frame[7 + 3 * k] for k in range(components)}
    coding: Coding = "JPEG-LS" if process == _JPEG_LS_FRAME else "JPEG"
    return Codestream(
        coding=coding,
        height=height,
        width=width,
        components=components,
        bits=bits,
        signed=False,
        # Near-lossless JPEG-LS has an error bound other than 0 in its scan header (T.87 C.2.3).
        lossless=process in _LOSSLESS or (coding == "JPEG-LS" and data[position + 5 + 2 * data[position + 4]] == 0),
        colour=_jpeg_colour(process, identifiers, len(sampling) > 1, applications),
        data=_with_spectral_selection(data, position) if process in _SEQUENTIAL else data,
    )


def _number_of_lines(data: bytes, scan: int) -> int:
    """Return the height that follows the first scan (T.81 B.2.5). Raises ImageError where nothing follows it."""
    place = data.find(_NUMBER_OF_LINES, scan)
    if place < 0:
        raise ImageError("the JPEG codestream says no height: it is damaged")
    return int(struct.unpack_from(">H", data, place + 4)[0])


def _jpeg_colour(
    process: int, identifiers: list[int], subsampled: bool, applications: list[tuple[int, bytes]]
) -> Colour | None:
    """Return what three components are, where all the signs in the codestream agree; else None.

    Signs are the Adobe marker (transform 0: RGB, 1: YCbCr), the JFIF marker (YCbCr, of the lossy processes only),
    components called R, G and B, and chroma that is subsampled. Source: T.872 6.5.3, JFIF 1.02.
    """
    if len(identifiers) != 3:
        return None
    signs: set[Colour] = {"YCC"} if subsampled else set()
    for marker, content in applications:
        if marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
            signs.add("YCC" if content[11] == 1 else "RGB")
        elif marker == _APP0 and content.startswith(b"JFIF\0") and process not in (*_LOSSLESS, _JPEG_LS_FRAME):
            signs.add("YCC")
        elif marker == _APP8 and content.startswith(b"mrfx") and content[4:5] not in (b"", b"\0"):
            raise ImageError("JPEG-LS with a colour transform of its own is not read: convert the file first")
    if bytes(identifiers) in (b"RGB", b"rgb"):
        signs.add("RGB")
    return signs.pop() if len(signs) == 1 else None


def _with_spectral_selection(data: bytes, scan: int) -> bytes:
    end = scan + 5 + 2 * data[scan + 4] + 1
    if data[end - 1 : end + 1] != b"\0\0":
        return data
    return data[:end] + b"\x3f" + data[end + 1 :]


def _in_boxes(data: bytes) -> int:
    """Return where the codestream of a JP2 file begins, behind boxes of any size (T.800 I.4). Raises struct.error."""
    position = 0
    while True:
        length, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        if kind == b"jp2c":
            return position + header
        # A box that is shorter than its header is damage, one of length 0 goes to the end of the file.
        position += length if length >= header else len(data)


def _jpeg_2000(data: bytes) -> Codestream:
    right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
    (components,) = struct.unpack_from(">H", data, 40)
    described = {struct.unpack_from(">B", data, 42 + 3 * k)[0] for k in range(min(components, 4))}
    sampling = {data[43 + 3 * k : 45 + 3 * k] for k in range(min(components, 4))}
    if len(described) != 1:
        raise ImageError("the components of the JPEG 2000 codestream differ in precision or sign: it is not read")
    transformed, reversible = _coding_style(data)
    (precision,) = described
    colour: Colour | None = "YCC" if len(sampling) > 1 else None
    return Codestream(
        coding="JPEG 2000",
        height=bottom - top,
        width=right - left,
        components=components,
        bits=(precision & 0x7F) + 1,
        signed=bool(precision & 0x80),
        lossless=reversible,
        # Decoding undoes the component transform; what it was made from is RGB (T.800 annex G).
        colour=None if components != 3 else "RGB" if transformed else colour,
        data=data,
    )


def _coding_style(data: bytes) -> tuple[bool, bool]:
    """Return whether the components are transformed, and whether the wavelet is reversible (T.800 A.6.1)."""
    position = 2
    while data[position] == 0xFF and data[position + 1] != _START_OF_TILE:
        if data[position + 1] == _CODING_STYLE:
            return data[position + 8] == 1, data[position + 13] == 1
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise ImageError("the JPEG 2000 codestream says no coding style: it is damaged")
