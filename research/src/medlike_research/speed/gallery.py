"""Codes for benches: uniform ones, and clustered ones as archives hold them, where ties are the rule."""

import numpy as np
from numpy.typing import NDArray

CENTRES = 1000
KINDS = ("uniform", "clustered")


def codes(kind: str, number: int, bits: int, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [N, bits / 8]. clustered: around 1,000 centres of Zipf frequency, 2 to 10 % of the bits flipped.

    A tenth of the clustered ones are one and the same code.
    """
    random = np.random.default_rng(seed)
    if kind == "uniform":
        return random.integers(0, 256, (number, bits // 8), dtype=np.uint8)
    centres = random.integers(0, 256, (CENTRES, bits // 8), dtype=np.uint8)
    shares = 1 / np.arange(1, CENTRES + 1)
    found = centres[random.choice(CENTRES, number, p=shares / shares.sum())]
    for start in range(0, number, 1 << 16):
        part = found[start : start + (1 << 16)]
        flips = random.uniform(0.02, 0.1, (len(part), 1)).astype(np.float32)
        part ^= np.packbits(random.random((len(part), bits), dtype=np.float32) < flips, axis=1)
    found[random.permutation(number)[: number // 10]] = centres[0]
    return found


def cells(kind: str, number: int, words: int = 1, seed: int = 0) -> NDArray[np.uint64]:
    """uint64 [N, 14, 14, words]. clustered: neighbouring cells are alike, as those of pictures are."""
    random = np.random.default_rng(seed)
    if kind == "uniform":
        return random.integers(0, 2**64, (number, 14, 14, words), dtype=np.uint64)
    patterns = 200
    noise = random.normal(size=(patterns, 16, 16, words * 64)).astype(np.float32)
    smooth = sum(noise[:, i : i + 14, j : j + 14] for i in range(3) for j in range(3))
    base = np.packbits(np.asarray(smooth) > 0, axis=3).view(np.uint64)
    found = np.empty((number, 14, 14, words), np.uint64)
    for start in range(0, number, 4096):
        part = found[start : start + 4096]
        part[:] = base[random.integers(0, patterns, len(part))]
        # Three random words, all of them 1 where a bit flips: one bit in eight.
        flips = random.integers(0, 2**64, (3, *part.shape), dtype=np.uint64)
        part ^= flips[0] & flips[1] & flips[2]
    return found
