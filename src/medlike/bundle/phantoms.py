"""Golden inputs: made-up pictures in which a host proves that it computes the same bits as another."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

SIZE = 224
COUNT = 16


def phantoms(count: int = COUNT, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Draw body-like phantoms, uint8 [count, size, size]: nested ellipses, bright rims, lesions, shading, padding.

    The same numbers give the same pictures (NumPy's PCG64), but a bundle stores them all the same: bits are
    compared on stored pixels, not on what another NumPy may draw.
    """
    pictures = []
    for number in range(count):
        random = np.random.Generator(np.random.PCG64(1000 + number))
        y, x = np.mgrid[0:size, 0:size].astype(np.float64) / (size - 1) * 2 - 1
        picture = 20 * random.random() + 25 * random.random() * (x * random.normal() + y * random.normal())
        layers = 3 + int(random.integers(0, 5))
        for layer in range(layers):
            reach = 0.9 - 0.7 * layer / layers
            width, height = reach * (0.7 + 0.3 * random.random(2))
            left, top = 0.25 * layer / layers * random.normal(size=2)
            turn = random.random() * np.pi
            u = ((x - left) * np.cos(turn) + (y - top) * np.sin(turn)) / width
            v = ((y - top) * np.cos(turn) - (x - left) * np.sin(turn)) / height
            radius = np.hypot(u, v)
            inside = 1 / (1 + np.exp((radius - 1) * 40))
            rim = np.exp(-(((radius - 1) * 14) ** 2))
            texture = np.sin(9 * (1 + layer) * u + random.random()) * np.cos(7 * v * (1 + layer))
            level = 40 + 180 * random.random()
            picture = picture * (1 - inside) + inside * (level + 10 * texture) + 60 * random.random() * rim
        grey = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        margin = int(random.integers(0, size // 5))
        if number % 3 == 1:
            grey[:margin] = 0
            grey[size - margin :] = 0
        elif number % 3 == 2:
            grey[:, :margin] = 0
            grey[:, size - margin :] = 0
        pictures.append(grey)
    return np.stack(pictures)


def packed_pictures(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Deflate pictures uint8 [N, H, W] into one stream, uint8 [bytes]."""
    return np.frombuffer(zlib.compress(pictures.tobytes(), 9), dtype=np.uint8)


def unpacked_pictures(stream: npt.NDArray[np.uint8], count: int, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Inflate the stream of `packed_pictures`: uint8 [count, size, size]. Raises ValueError for another stream."""
    whole = count * size * size
    unpacker = zlib.decompressobj()
    try:
        # No more is unpacked than belongs there: a small stream can grow a thousandfold.
        data = unpacker.decompress(stream.tobytes(), whole + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(data) != whole:
        raise ValueError(f"{len(data)} bytes or more, not {whole}")
    return np.frombuffer(data, dtype=np.uint8).reshape(count, size, size)
