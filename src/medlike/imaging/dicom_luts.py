"""Make look-up tables of DICOM files from descriptor and data; the entries decide if the two disagree."""

from dataclasses import replace

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medlike.imaging.image import Lut

#: Entries that a table may lack: the last one stands for it.
_MISSING = 1


def read_lut(item: Dataset, signed: bool, little: bool, declared_sign: bool) -> tuple[Lut, str | None]:
    """Return the table of an item of a Modality or VOI LUT Sequence, and what of it had to be mended.

    Source: PS3.3 C.11.1.1 and C.11.2.1.1. The number of entries 0 means 65536. Entries of 8 bits may be packed
    two in a word, the first in the low byte, whatever the byte order. A table that lacks its last entry ends with
    the one before; entries past the number said are left out.

    Args:
        item: holds LUTDescriptor and LUTData.
        signed: True if values may be negative before the table: the first mapped value is then signed.
        little: byte order of words in the file.
        declared_sign: True if the file writes its value representations: SS is then taken at its word.

    Returns:
        The table, with the bits of its descriptor, and a remark or None.

    Raises:
        ValueError: if descriptor and data make no table.
    """
    element = item["LUTDescriptor"]
    count, first, bits = (int(value) & 0xFFFF for value in element.value)
    count = count or 65536
    if first > 32767 and (signed or (declared_sign and element.VR == "SS")):
        first -= 65536
    words, stream = _data(item["LUTData"], little)
    if len(words) >= count:
        entries = words[:count]
    elif len(stream) in (count, count + 1):
        entries, bits = stream[:count], min(bits, 8)
    elif len(words) >= max(count - _MISSING, 1):
        entries = words
    elif bits <= 8 and len(stream) >= count - 2 * _MISSING > 0:
        entries = stream[:count]
    else:
        raise ValueError(f"the table says {count} entries and has {len(words)}")
    has = max(len(words), len(entries)) if len(words) > count else len(entries)
    remark = None if has == count else f"the look-up table says {count} entries and has {has}"
    return Lut(first, tuple(entries.tolist()), bits), remark


def fit_output(lut: Lut) -> tuple[Lut, str | None]:
    """Return a VOI table whose bits are those that its entries have, and a remark if they are not the ones it says.

    The descriptor decides as long as the largest entry is above the lowest quarter of the range, and within it.
    Else the largest entry does: 12-bit entries that are called 16 (Agfa CR) would be all but black.

    Raises:
        ValueError: if the descriptor says no depth of 1 .. 16 bits, and all entries are 0.
    """
    depth = max(lut.entries).bit_length()
    if 1 <= lut.bits <= 16 and (depth == 0 or lut.bits - 2 < depth <= lut.bits):
        return lut, None
    if depth == 0:
        raise ValueError(f"the table says {lut.bits} bits and holds nothing but 0")
    return replace(lut, bits=depth), f"the look-up table says {lut.bits} bits, its entries have {depth}"


def _data(element: DataElement, little: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return LUT data as words, uint16, and as bytes, uint8, the low byte of a word first."""
    value = element.value
    if isinstance(value, bytes):
        if element.VR == "OB":
            stream = np.frombuffer(value, np.uint8)
            return stream[: len(stream) // 2 * 2].view("<u2").astype(np.uint16), stream
        words = np.frombuffer(value, "<u2" if little else ">u2", len(value) // 2).astype(np.uint16)
        # An odd number of bytes is no OW; then they are entries of a byte.
        return words, words.astype("<u2").view(np.uint8) if len(value) % 2 == 0 else np.frombuffer(value, np.uint8)
    listed = [value] if isinstance(value, int) else list(value)
    words = np.asarray([int(one) & 0xFFFF for one in listed], np.uint16)
    return words, words.astype("<u2").view(np.uint8)
