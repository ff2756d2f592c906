"""Bits to bytes and back. Packed codes are uint8, most significant bit first."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlike.errors import QueryError


def pack(bits: ArrayLike) -> NDArray[np.uint8]:
    """Pack bits into bytes.

    bits: bool (or any dtype, non-zero = 1) [..., K], K a multiple of 8. Returns uint8 [..., K/8], most
    significant bit first. Raises QueryError where K is not a multiple of 8.
    """
    array = np.asarray(bits)
    if array.ndim == 0 or array.shape[-1] % 8:
        raise QueryError(f"{array.shape[-1] if array.ndim else 1} bits cannot be packed: use a multiple of 8 bits")
    return np.packbits(array.astype(bool, copy=False), axis=-1)


def unpack(codes: ArrayLike) -> NDArray[np.bool_]:
    """Unpack bytes into bits: uint8 [..., B] to bool [..., 8 B], most significant bit first."""
    return np.unpackbits(np.asarray(codes, dtype=np.uint8), axis=-1).astype(bool)


def unpack_grids(masks: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """Return square masks, uint8 [N, side * side / 8 rounded up], as bool [N, side, side]."""
    return np.unpackbits(masks, axis=1, count=side * side).astype(bool).reshape(-1, side, side)
