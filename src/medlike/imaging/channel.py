"""The messages between a decoding worker and its parent: JSON of a known length, and pixels in shared memory.

JSON holds no code, so a worker that a file has taken over can only answer wrongly, and the parent checks the answer.
"""

import dataclasses
import json
import math
import mmap
import os
import secrets
import select
import socket
import struct
import sys

import numpy as np

from medlike.errors import ImageError
from medlike.imaging.arrays import KEPT
from medlike.imaging.image import Image, Photometry
from medlike.imaging.limits import MAX_PIXELS
from medlike.types import JsonObject

#: Room for the largest picture that is read: three floats a pixel. Only what is written to takes memory.
SHARED_BYTES = MAX_PIXELS * 3 * 4

#: Longest message: a text of a file may be long, and tables of colours are.
_LONGEST = 64 << 20
#: Pictures larger than this leave no copy in shared memory.
_KEPT_BYTES = 8 << 20
_LENGTH = struct.Struct("<I")


def send(channel: socket.socket, message: JsonObject) -> None:
    """Send a message. Raises OSError if the other end is gone."""
    data = json.dumps(message, default=_plain).encode()
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket) -> JsonObject | None:
    """Return the next message, None if the other end is gone. Raises ValueError if it is none."""
    start = _exactly(channel, _LENGTH.size)
    if start is None:
        return None
    (length,) = _LENGTH.unpack(start)
    if length > _LONGEST:
        raise ValueError(f"a message of {length} bytes")
    data = _exactly(channel, length)
    message = None if data is None else json.loads(data)
    if not isinstance(message, dict | None):
        raise ValueError("a message that is no object")
    return message


def readable(channel: socket.socket, seconds: float) -> bool:
    """Return True as soon as there is something to receive, or the other end is gone; False after so many seconds."""
    poll = select.poll()  # `select.select` takes no descriptor above 1023
    poll.register(channel, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def shared_memory() -> int:
    """Return a file descriptor of new, empty, anonymous memory that can be mapped by the process that inherits it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("medlike", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, SHARED_BYTES)
        _seal(descriptor)
        return descriptor
    import _posixshmem

    name = f"/medlike-{secrets.token_hex(8)}"
    descriptor = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
    _posixshmem.shm_unlink(name)
    os.ftruncate(descriptor, SHARED_BYTES)
    return int(descriptor)


def mapped(descriptor: int) -> mmap.mmap:
    """Return shared memory as this process sees it."""
    return mmap.mmap(descriptor, SHARED_BYTES)


def put(memory: mmap.mmap, image: Image) -> JsonObject:
    """Write the pixels of an image into shared memory, and return the rest of it as plain values."""
    pixels = np.ascontiguousarray(image.pixels)
    np.frombuffer(memory, pixels.dtype, pixels.size).reshape(pixels.shape)[...] = pixels
    facts = {one.name: getattr(image, one.name) for one in dataclasses.fields(image)}
    del facts["path"]
    return {**facts, "pixels": [pixels.dtype.name, pixels.shape], "photometry": image.photometry.as_dict()}


def take(memory: mmap.mmap, facts: JsonObject, path: str) -> Image:
    """Return the image that `put` wrote, its pixels copied.

    Raises:
        ImageError: A worker that can no longer be trusted has written something else.
    """
    try:
        name, shape = facts["pixels"]
        height, width, colours = (*shape, 1)[:3]
        known = name in KEPT and len(shape) in (2, 3) and colours in (1, 3)
        if not known or min(height, width) < 1 or height * width > MAX_PIXELS:
            raise ValueError(f"pixels of {name} and {shape}")
        pixels = np.frombuffer(memory, np.dtype(name), math.prod(shape)).reshape(shape).copy()
        if pixels.nbytes > _KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            memory.madvise(mmap.MADV_REMOVE, 0, -(-pixels.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE)
        spacing, boxes = facts["spacing"], facts["boxes"]
        return Image(
            pixels,
            Photometry.from_dict(facts["photometry"]),
            None if spacing is None else (float(spacing[0]), float(spacing[1])),
            int(facts["frame"]),
            int(facts["frames"]),
            {str(name): value for name, value in facts["metadata"].items() if isinstance(value, str | int | float)},
            {str(kind): str(text) for kind, text in facts["texts"].items()},
            {str(name): str(value) for name, value in facts["identifiers"].items()},
            path,
            None if boxes is None else [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in boxes],
            int(facts["replaced"]),
            tuple(map(str, facts["remarks"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ImageError(f"the decoding worker gave no image: {error}") from None


def _plain(value: object) -> object:
    """Return a NumPy number as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _exactly(channel: socket.socket, length: int) -> bytearray | None:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        try:
            count = channel.recv_into(view[filled:])
        except ConnectionResetError:
            return None
        if count == 0:
            return None
        filled += count
    return data


def _seal(descriptor: int) -> None:
    """Fix the size: a worker that made the memory smaller could end its parent with a bus error."""
    if sys.platform == "linux":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
