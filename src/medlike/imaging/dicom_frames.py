"""Split encapsulated pixel data into frames: items, offset tables, frames in several items (PS3.5 A.4)."""

import struct
from itertools import pairwise

from medlike.errors import ImageError
from medlike.imaging.codestream import starts_codestream

_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

Span = tuple[int, int]


def frame_spans(data: bytes, frames: int, extended: bytes = b"") -> list[list[Span]]:
    """Return where each frame of encapsulated pixel data lies.

    The items decide, as in DCMTK; an offset table is used only where they leave a choice. As many items as frames
    are one frame each, and a single frame has all items. Otherwise the extended offset table splits them, then the
    basic one, then the items at which a codestream begins. A table counts only if it names one item for each frame,
    the first one first, and in ascending order.

    Args:
        data: the value of Pixel Data, from the item of the basic offset table on.
        frames: how many frames the header says.
        extended: the value of Extended Offset Table (PS3.3 C.7.6.3.1.8), empty where there is none.

    Returns:
        For each frame the [start, stop) byte ranges of its items; fewer frames than said if the data end early.

    Raises:
        ImageError: the items are damaged, or cannot be shared out among the frames.
    """
    table, items = _items(data)
    if not items:
        raise ImageError("the pixel data has no item: it is damaged")
    if frames == 1:
        return [_first_codestream(data, items)]
    if len(items) == frames:
        return [[item] for item in items]
    if len(items) < frames:
        if any(data.find(b"\xff\xd9\xff\xd8", start, stop) >= 0 for start, stop in items):
            raise ImageError(f"the header says {frames} frames, but an item of the pixel data has several")
        return [[item] for item in items]
    base = items[0][0] - 8
    places = {start - 8 - base: index for index, (start, _) in enumerate(items)}
    starts = [index for index, item in enumerate(items) if _begins(data, item)]
    basic = data[table[0] : table[1]]
    for offsets in (_unpacked(extended, "Q"), _unpacked(basic, "I")):
        first = [places.get(offset, -1) for offset in offsets]
        ascending = all(a < b for a, b in pairwise(first))
        if len(first) == frames and first[0] == 0 and ascending and (not starts or set(first) <= set(starts)):
            return _split(items, first)
    if len(starts) >= frames and starts[0] == 0:
        return _split(items, starts)[:frames]
    raise ImageError(
        f"the header says {frames} frames, the pixel data has {len(items)} items, and no offset table "
        "or codestream says where the frames begin"
    )


def frame_bytes(data: bytes, spans: list[Span]) -> bytes:
    """Return the bytes of one frame, its items joined."""
    return b"".join(data[start:stop] for start, stop in spans)


def _items(data: bytes) -> tuple[Span, list[Span]]:
    """Return the range of the basic offset table, and those of the items after it."""
    spans: list[Span] = []
    position = 0
    while position + 8 <= len(data) and data[position : position + 4] != _SEQUENCE_END:
        if data[position : position + 4] != _ITEM:
            raise ImageError(f"the pixel data is damaged at byte {position}: an item is expected there")
        (length,) = struct.unpack_from("<I", data, position + 4)
        stop = position + 8 + length
        if stop > len(data):
            raise ImageError("the file ends inside its pixel data: it is truncated")
        spans.append((position + 8, stop))
        position = stop
    return (spans[0], spans[1:]) if spans else ((0, 0), [])


def _first_codestream(data: bytes, items: list[Span]) -> list[Span]:
    """Return the items of the first frame: up to the next item at which another codestream begins."""
    begins = [_begins(data, item) for item in items]
    end = next((index for index in range(1, len(items)) if begins[0] and begins[index]), len(items))
    return items[:end]


def _begins(data: bytes, item: Span) -> bool:
    return starts_codestream(data[item[0] : min(item[1], item[0] + 12)])


def _unpacked(table: bytes, kind: str) -> list[int]:
    size = struct.calcsize("<" + kind)
    return list(struct.unpack(f"<{len(table) // size}{kind}", table[: len(table) // size * size]))


def _split(items: list[Span], first: list[int]) -> list[list[Span]]:
    return [items[a:b] for a, b in zip(first, [*first[1:], len(items)], strict=True)]
