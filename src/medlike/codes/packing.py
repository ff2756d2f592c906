"""Bits to bytes and back. Packed codes are uint8, most significant bit first."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medlike.errors import QueryError

_WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}  # by the largest power of two that divides the width


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


def words(codes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """View packed codes as the widest machine words that fit, without copying if memory allows it.

    Args:
        codes: uint8 [N, B].

    Returns:
        uint64, uint32, uint16 or uint8 [N, W] with W words of B / W bytes. The order of bits inside a word depends on
        the processor; a Hamming distance does not.
    """
    width = codes.shape[1]
    if width == 0:
        raise QueryError("codes have no bytes: a code has at least 8 bits")
    kind = _WORDS[min(width & -width, 8)]
    if codes.flags.c_contiguous and (view := codes.view(kind)).flags.aligned:
        return view
    return np.array(codes, order="C", copy=True).view(kind)


def unpack_grids(masks: NDArray[np.uint8], side: int) -> NDArray[np.bool_]:
    """Return square masks, uint8 [N, side * side / 8 rounded up], as bool [N, side, side]."""
    return np.unpackbits(masks, axis=1, count=side * side).astype(bool).reshape(-1, side, side)
