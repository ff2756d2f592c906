"""How alike two pictures are in structure once they lie on each other."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_WINDOW = 7


def aligned_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of a and the best of eight orientations of b, each shifted onto a: -1 to 1.

    a, b: uint8 [S, S]. The shift is the peak of the phase correlation (Kuglin and Hines 1975), at most a
    quarter of a side.
    """
    left = a.astype(np.float32)
    spectrum = np.fft.rfft2(left)
    best = -1.0
    for turned in _orientations(b.astype(np.float32)):
        moved = _shifted_onto(spectrum, turned)
        best = max(best, structural_similarity(left, moved))
    return best


def structural_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean SSIM of two float pictures in 0..255 over windows of 7x7 (Wang et al. 2004)."""
    mean_a, mean_b = uniform_filter(a, _WINDOW), uniform_filter(b, _WINDOW)
    var_a = uniform_filter(a * a, _WINDOW) - mean_a**2
    var_b = uniform_filter(b * b, _WINDOW) - mean_b**2
    both = uniform_filter(a * b, _WINDOW) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    bottom = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    edge = _WINDOW // 2
    return float((top / bottom)[edge:-edge, edge:-edge].mean())


def _orientations(picture: np.ndarray) -> list[np.ndarray]:
    turns = [np.rot90(picture, n) for n in range(4)]
    return turns + [t[:, ::-1] for t in turns]


def _shifted_onto(spectrum: np.ndarray, picture: np.ndarray) -> np.ndarray:
    side = picture.shape[0]
    cross = spectrum * np.conj(np.fft.rfft2(picture))
    surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=picture.shape)
    reach = side // 4
    near = np.concatenate([np.arange(reach + 1), np.arange(side - reach, side)])
    window = surface[np.ix_(near, near)]
    row, column = np.unravel_index(int(window.argmax()), window.shape)
    down, right = (int((near[n] + side // 2) % side - side // 2) for n in (row, column))
    moved = np.zeros_like(picture)
    source = picture[max(0, -down) : side - max(0, down), max(0, -right) : side - max(0, right)]
    moved[max(0, down) : side - max(0, -down), max(0, right) : side - max(0, -right)] = source
    return moved
