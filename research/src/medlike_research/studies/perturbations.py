"""Changes that an image meets on its way from a scanner to an archive, as functions of grey pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image as PillowImage

Change = Callable[[np.ndarray], np.ndarray]


def jpeg(quality: int) -> Change:
    """Lossy compression and back."""

    def change(grey: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        PillowImage.fromarray(grey).save(buffer, "JPEG", quality=quality)
        return np.asarray(PillowImage.open(buffer).convert("L"))

    return change


def resized(share: float) -> Change:
    """Scaled down and up again: detail is lost."""

    def change(grey: np.ndarray) -> np.ndarray:
        height, width = grey.shape
        small = (max(8, round(width * share)), max(8, round(height * share)))
        picture = PillowImage.fromarray(grey).resize(small, PillowImage.Resampling.BOX)
        return np.asarray(picture.resize((width, height), PillowImage.Resampling.BILINEAR))

    return change


def noise(deviation: float, seed: int | None = None) -> Change:
    """Gaussian noise, the same for a seed every time; without one, for a picture of one size."""

    def change(grey: np.ndarray) -> np.ndarray:
        grain = np.random.default_rng(grey.size if seed is None else seed).normal(0, deviation, grey.shape)
        return _grey(grey + grain)

    return change


def blur(radius: float) -> Change:
    """Gaussian blur; the radius is in pixels of a picture 224 wide."""

    def change(grey: np.ndarray) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        return _grey(gaussian_filter(grey.astype(np.float32), radius * max(grey.shape) / 224))

    return change


def inversion(grey: np.ndarray) -> np.ndarray:
    """Black for white."""
    return 255 - grey


def window(low: float, high: float) -> Change:
    """A wrong display window: what is below `low` turns black, above `high` white."""
    return lambda grey: _grey((grey.astype(np.float32) - low) * 255.0 / (high - low))


def crop(share: float) -> Change:
    """The middle part of the picture."""

    def change(grey: np.ndarray) -> np.ndarray:
        height, width = grey.shape
        top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
        return np.ascontiguousarray(grey[top : height - top, left : width - left])

    return change


def rotation(degrees: float) -> Change:
    """Turned about its middle, black where nothing was."""

    def change(grey: np.ndarray) -> np.ndarray:
        turned = PillowImage.fromarray(grey).rotate(degrees, PillowImage.Resampling.BILINEAR)
        return np.asarray(turned)

    return change


def brightness(factor: float) -> Change:
    """Every grey value times a factor."""
    return lambda grey: _grey(grey.astype(np.float32) * factor)


def rewindowed(width: float, centre: float) -> Change:
    """Another display window: its width as a share of the former one, its centre moved by a share of that."""
    low = 255 * (0.5 + centre - width / 2)
    return window(low, low + 255 * width)


def mirrored(grey: np.ndarray) -> np.ndarray:
    """Left for right."""
    return np.ascontiguousarray(grey[:, ::-1])


# name -> levels, mildest first.
CHANGES: Mapping[str, Mapping[str, Change]] = {
    "JPEG quality": {"90": jpeg(90), "50": jpeg(50), "20": jpeg(20)},
    "resize to": {"75 %": resized(0.75), "50 %": resized(0.5), "25 %": resized(0.25)},
    "noise": {"4": noise(4), "10": noise(10), "25": noise(25)},
    "blur": {"0.5 px": blur(0.5), "1 px": blur(1), "2 px": blur(2)},
    "inversion": {"all": inversion},
    "window": {"narrow": window(40, 215), "dark": window(60, 400), "bright": window(-145, 195)},
    "crop to": {"95 %": crop(0.95), "85 %": crop(0.85), "70 %": crop(0.7)},
    "rotation": {"3 deg": rotation(3), "10 deg": rotation(10), "90 deg": rotation(90)},
}


def _grey(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(np.round(values), 0, 255), dtype=np.uint8)
