"""The size that a compressed frame declares, read without decoding it."""

import struct

#: Start-of-frame markers of JPEG (ITU-T T.81) and of JPEG-LS (T.87).
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG, JPEG-LS or JPEG 2000 codestream declares, or None where it says none."""
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    return _jpeg_2000(data, start) if start >= 0 else None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            # Height 0: it follows the first scan (DNL), and only decoding tells.
            return (height, width) if height else None
        if marker == 0xFF:
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            position += 2
        else:
            position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None


def _jpeg_2000(data: bytes, start: int) -> tuple[int, int] | None:
    if len(data) < start + 24:
        return None
    right, bottom, left, top = struct.unpack(">IIII", data[start + 8 : start + 24])
    return bottom - top, right - left
