"""Small summaries of a picture: the 16 x 16 fingerprint and the 64-bit perceptual hash."""

import math

import numpy as np
from PIL.Image import Resampling

from medlike.imaging.arrays import resized
from medlike.imaging.letterbox import SIZE, letterbox

FINGERPRINT = 16


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """Return a picture as 16 x 16 grey: uint8 [16, 16], box means ("Structure-aware contrastive hashing").

    Source: methods, "Structure-aware contrastive hashing". grey: uint8 [H, W]; other shapes are letterboxed first.
    """
    if grey.shape[0] != grey.shape[1]:
        grey, _ = letterbox(grey, SIZE)
    return resized(grey, FINGERPRINT, FINGERPRINT, Resampling.BOX)


def perceptual_hash(grey: np.ndarray) -> np.uint64:
    """Return the 64-bit perceptual hash (pHash): near-duplicates differ in few bits.

    grey: uint8 [H, W]. The picture is scaled to 32 x 32 without regard to its shape; bit (8 r + c), most
    significant first, is whether coefficient (r, c) of its cosine transform is above the median of the
    lowest 8 x 8. The transform is in integers, so the hash is the same on every machine. Source: Zauner
    2010, as in the imagehash package.
    """
    pixels = resized(grey, 32, 32).astype(np.int64)
    lowest = (_COSINES @ pixels @ _COSINES.T).ravel()
    # Median of 64: twice the value, so that it stays whole.
    middle = np.sort(lowest)[31:33].sum()
    bits = np.packbits(2 * lowest > middle)
    return np.uint64(int.from_bytes(bits.tobytes(), "big"))


#: First 8 rows of the 32-point DCT-II, scaled by 2**14: int64 [8, 32].
_COSINES = np.array(
    [[round(16384 * math.cos(math.pi * k * (2 * n + 1) / 64)) for n in range(32)] for k in range(8)], np.int64
)
