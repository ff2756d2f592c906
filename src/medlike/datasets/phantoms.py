"""Drawn images with lesions whose place is known: samples and tests without anybody's patient.

They look enough like CT, MR, ultrasound and radiographs to pass through the same reading and windowing;
nothing may be concluded about real images from them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from medlike.errors import DatasetError

Floats = NDArray[np.float64]
Pixels = NDArray[np.int16] | NDArray[np.uint8]


@dataclass(frozen=True)
class Phantom:
    """Hold one drawn image and what is known of it.

    Attributes:
        pixels: int16 [H, W] Hounsfield units for CT, uint8 [H, W] otherwise.
        modality: CT, MR, US or XR.
        region: The part of the body.
        label: MODALITY_REGION_phantom_lesion or _normal.
        text: A sentence that describes the image.
        boxes: Lesion boxes x0, y0, x1, y1, pixels, half-open; empty without a lesion.
    """

    pixels: Pixels
    modality: str
    region: str
    label: str
    text: str
    boxes: list[list[int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Lesion:
    x: float
    y: float
    radius: float
    squash: float

    def draw(self, x: Floats, y: Floats, edge: float) -> Floats:
        return _ellipse(x, y, self.x, self.y, self.radius, self.radius * self.squash, edge)

    def box(self, size: int) -> list[int]:
        def pixel(v: float, up: bool) -> int:
            p = (v + 1) * size / 2
            return int(np.clip(np.ceil(p) if up else np.floor(p), 0, size))

        half = self.radius * self.squash
        return [
            pixel(self.x - self.radius, False), pixel(self.y - half, False),
            pixel(self.x + self.radius, True), pixel(self.y + half, True),
        ]  # fmt: skip


#: What a painter returns: the image, and where a lesion is, or would be.
Drawing = tuple[Pixels, _Lesion]


def draw(kind: str, seed: int, lesion: bool = True, size: int = 192, level: float = 0.0) -> Phantom:
    """Draw one phantom; the same arguments give the same pixels.

    Args:
        kind: One of KINDS.
        seed: Which patient; slices of one seed are one patient.
        lesion: Draw a lesion.
        size: Side in pixels, at least 32.
        level: Height of the slice through the body, -1 to 1.

    Raises:
        DatasetError: The kind is unknown or the size too small.
    """
    if kind not in KINDS:
        raise DatasetError(f"unknown phantom {kind!r}; known are {', '.join(KINDS)}")
    if size < 32:
        raise DatasetError(f"a phantom of {size} pixels is too small; the least is 32")
    # One stream for the anatomy and one for the noise: slices share the first and differ in the second.
    body = np.random.default_rng([seed, list(KINDS).index(kind)])
    noise = np.random.default_rng([seed, list(KINDS).index(kind), round((level + 2) * 1000)])
    centres = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(centres, centres)
    chosen = KINDS[kind]
    pixels, spot = chosen.paint(x, y, body, noise, lesion, level)
    # The patient's left is on the reader's right.
    words = chosen.lesion.format(side="left" if spot.x > 0 else "right") if lesion else chosen.normal
    label = f"{chosen.modality}_{chosen.region}_phantom_{'lesion' if lesion else 'normal'}"
    boxes = [spot.box(size)] if lesion else []
    return Phantom(pixels, chosen.modality, chosen.region, label, f"Drawn {chosen.title}, {words}.", boxes)


def _ct_abdomen(x: Floats, y: Floats, body: Generator, noise: Generator, lesion: bool, level: float) -> Drawing:
    shrink = 1 - 0.12 * level * level
    wide, high = body.uniform(0.78, 0.9) * shrink, body.uniform(0.58, 0.68) * shrink
    hu = np.full_like(x, -1000.0)
    hu = _over(hu, -95.0, _ellipse(x, y, 0, 0, wide, high, 0.02))
    hu = _over(hu, 45.0, _ellipse(x, y, 0, 0, wide - 0.09, high - 0.09, 0.02))
    hu = _over(hu, -70.0, 0.75 * _ellipse(x, y, 0.1, -0.05, wide - 0.2, high - 0.2, 0.1))
    turn = body.uniform(-0.05, 0.05)
    liver = _ellipse(x, y, -0.36 + turn, -0.1, 0.36 * (1 - 0.3 * level), 0.34, 0.03)
    hu = _over(hu, body.uniform(95, 120), liver)
    hu = _over(hu, 115.0, _ellipse(x, y, 0.5, 0.1 + turn, 0.13, 0.2, 0.03))
    for side in (-1, 1):
        hu = _over(hu, 165.0, _ellipse(x, y, side * 0.33, 0.26, 0.11, 0.13, 0.03) * (level > -0.8))
        hu = _over(hu, 40.0, _ellipse(x, y, side * 0.3, 0.26, 0.035, 0.05, 0.03) * (level > -0.8))
    hu = _over(hu, 20.0, _ellipse(x, y, 0.28, -0.22, 0.2, 0.15, 0.03))
    hu = _over(hu, -800.0, _ellipse(x, y, 0.27, -0.3, 0.1, 0.05, 0.03))
    hu = _over(hu, 430.0, _ellipse(x, y, 0, 0.36, 0.12, 0.1, 0.03))
    hu = _over(hu, 180.0, _ellipse(x, y, 0, 0.36, 0.09, 0.075, 0.04))
    hu = _over(hu, 10.0, _ellipse(x, y, 0, 0.485, 0.04, 0.035, 0.03))
    hu = _over(hu, 190.0, _ellipse(x, y, 0.03, 0.19, 0.055, 0.055, 0.03))
    spot = _Lesion(-0.38 + body.uniform(-0.12, 0.14), -0.1 + body.uniform(-0.14, 0.14),
                   body.uniform(0.07, 0.12), body.uniform(0.8, 1.15))  # fmt: skip
    if lesion:
        hu = _over(hu, body.uniform(25, 50), spot.draw(x, y, 0.06))
    hu += _blur(noise.normal(0, 28, x.shape), 0.8)
    return np.clip(np.round(hu), -1024, 3071).astype(np.int16), spot


def _mr_head(x: Floats, y: Floats, body: Generator, noise: Generator, lesion: bool, level: float) -> Drawing:
    size = len(x)
    scale = np.sqrt(max(1 - 0.6 * level * level, 0.1))
    wide, high = body.uniform(0.66, 0.72) * scale, body.uniform(0.82, 0.88) * scale
    signal = _ellipse(x, y, 0, 0, wide, high, 0.02) * 0.85
    signal = _over(signal, 0.06, _ellipse(x, y, 0, 0, wide - 0.05, high - 0.05, 0.02))
    folds = _blur(body.normal(0, 1, x.shape), size / 40)
    folds /= folds.std()
    radius = np.hypot(x / (wide - 0.12), y / (high - 0.12))
    brain = _step(1 - radius, 0.03)
    cortex = np.clip(radius - 0.55, 0, 1) * 1.4
    signal = _over(signal, 0.62, brain)
    signal -= brain * cortex * 0.28 * (1 + np.tanh(folds * 2.2)) / 2
    signal -= brain * 0.35 * _step(0.012 - np.abs(x), 0.01)
    open_by = body.uniform(0.08, 0.13) * (1 - 0.4 * abs(level))
    for side in (-1, 1):
        tilted = x + side * (0.06 + 0.25 * (y + 0.1))
        signal = _over(signal, 0.13, _ellipse(tilted, y, 0, 0.02, open_by * 0.55, 0.26, 0.02))
        signal = _over(signal, 0.45, 0.7 * _ellipse(x, y, side * 0.22, 0.0, 0.07, 0.14, 0.05))
    angle = body.uniform(0, 2 * np.pi)
    spot = _Lesion(0.3 * np.cos(angle), 0.42 * np.sin(angle), body.uniform(0.1, 0.17), body.uniform(0.8, 1.2))
    if lesion:
        swollen, dead = spot.radius * 1.6, spot.radius * 0.45
        signal = _over(signal, 0.5, 0.5 * _ellipse(x, y, spot.x, spot.y, swollen, swollen, 0.15))
        signal = _over(signal, 0.95, spot.draw(x, y, 0.08))
        signal = _over(signal, 0.35, _ellipse(x, y, spot.x, spot.y, dead, dead, 0.1))
    # Magnitude images have Rician noise: the air is never quite black.
    real, imaginary = noise.normal(0, 0.022, x.shape), noise.normal(0, 0.022, x.shape)
    signal = np.hypot(signal + real, imaginary)
    return _grey(signal), spot


def _us_breast(x: Floats, y: Floats, body: Generator, noise: Generator, lesion: bool, level: float) -> Drawing:
    size = len(x)
    ripple = _blur(body.normal(0, 1, x.shape), size / 10)
    ripple = ripple / ripple.std() * 0.05 + 0.03 * level
    depth = y + ripple
    strength = np.full_like(x, 0.30)
    strength = _over(strength, 0.75, _step(-0.86 - y, 0.02))
    strength = _over(strength, 0.28, _step(depth + 0.86, 0.02) * _step(-0.45 - depth, 0.05))
    strength = _over(strength, 0.55, _step(depth + 0.45, 0.05) * _step(0.35 - depth, 0.05))
    strength = _over(strength, 0.33, _step(depth - 0.35, 0.03))
    for line in (0.35, 0.42, 0.62):
        strength = _over(strength, 0.85, 0.8 * _step(0.015 - np.abs(depth - line), 0.02))
    spot = _Lesion(body.uniform(-0.4, 0.4), body.uniform(-0.25, 0.1), body.uniform(0.17, 0.28), body.uniform(0.55, 0.8))
    if lesion:
        strength = _over(strength, 0.05, spot.draw(x, y, 0.12))
        behind = _step(spot.radius * 0.8 - np.abs(x - spot.x), 0.06) * _step(y - spot.y, 0.1)
        strength *= 1 - 0.6 * behind
    strength *= 1 - 0.28 * (y + 1)
    # Speckle: the modulus of a blurred complex field, wider along the probe than in depth.
    speckle = np.hypot(_blur(noise.normal(0, 1, x.shape), 1.3, 0.8), _blur(noise.normal(0, 1, x.shape), 1.3, 0.8))
    signal = strength * speckle / speckle.mean()
    signal = np.log1p(12 * np.clip(signal, 0, None)) / np.log1p(18)
    return _grey(signal), spot


def _xr_chest(x: Floats, y: Floats, body: Generator, noise: Generator, lesion: bool, level: float) -> Drawing:
    size = len(x)
    wide = body.uniform(0.3, 0.35)
    dense = 0.62 * _ellipse(x, y, 0, 0.35, 0.98, 1.25, 0.1) + 0.04 * level
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        outline = _ellipse(x + side * 0.1 * y, y, side * 0.42, -0.05, wide, body.uniform(0.66, 0.72), 0.05)
        floor = 0.5 + 0.05 * side - 0.9 * (x - side * 0.42) ** 2
        lungs = np.maximum(lungs, outline * _step(floor + 0.1 * np.abs(x) - y + 0.12, 0.03))
    dense = _over(dense, 0.16, lungs)
    dense = _over(dense, 0.75, 0.9 * _step(0.13 - np.abs(x), 0.06) * _step(y + 1, 0.2))
    dense = _over(dense, 0.8, 0.95 * _ellipse(x, y, 0.14, 0.32, body.uniform(0.3, 0.38), 0.3, 0.06))
    phase = body.uniform(0, 0.2)
    for k in range(9):
        for side in (-1, 1):
            arc = -0.9 + phase + 0.18 * k + 0.35 * np.clip(np.abs(x) - 0.12, 0, None) ** 1.2
            band = _step(0.028 - np.abs(y - arc), 0.02) * _step(side * x - 0.1, 0.04) * _step(0.82 - side * x, 0.04)
            dense += 0.085 * band
    for side in (-1, 1):
        dense += 0.15 * _step(0.03 - np.abs(y + 0.78 + 0.18 * (side * x - 0.1)), 0.02) * _step(side * x - 0.1, 0.05)
    vessels = _blur(body.normal(0, 1, x.shape), size / 90)
    dense += lungs * 0.06 * np.clip(vessels / vessels.std(), 0, 3) * np.exp(-3 * np.abs(np.abs(x) - 0.18))
    side = 1 if body.random() < 0.5 else -1
    spot = _Lesion(side * body.uniform(0.42, 0.52), body.uniform(-0.35, 0.1), body.uniform(0.06, 0.1), 1.0)
    if lesion:
        dense += 0.3 * spot.draw(x, y, 0.1)
    dense = _blur(dense, size / 250) + noise.normal(0, 0.012, x.shape)
    return _grey(dense), spot


@dataclass(frozen=True)
class _Kind:
    """One kind of phantom: who draws it, and the words that describe it without and with a lesion."""

    paint: Callable[[Floats, Floats, Generator, Generator, bool, float], Drawing]
    modality: str
    region: str
    title: str
    normal: str
    lesion: str


KINDS = {
    "ct_abdomen": _Kind(
        _ct_abdomen, "CT", "abdomen", "CT of the upper abdomen", "no focal lesion", "hypodense lesion in the liver"
    ),
    "mr_head": _Kind(_mr_head, "MR", "head", "axial MR of the head", "no lesion", "ring-enhancing lesion"),
    "us_breast": _Kind(
        _us_breast, "US", "breast", "ultrasound of the breast", "no mass", "hypoechoic mass with shadow behind it"
    ),
    "xr_chest": _Kind(
        _xr_chest, "XR", "chest", "frontal chest radiograph", "clear lungs", "round opacity in the {side} lung"
    ),
}


def _step(distance: Floats, edge: float) -> Floats:
    return 1 / (1 + np.exp(-np.clip(distance / edge * 4, -30, 30)))


def _ellipse(x: Floats, y: Floats, cx: float, cy: float, rx: float, ry: float, edge: float) -> Floats:
    radius = np.hypot((x - cx) / rx, (y - cy) / ry)
    return _step((1 - radius) * min(rx, ry), edge)


def _over(below: Floats, value: float, alpha: Floats) -> Floats:
    return below * (1 - alpha) + value * alpha


def _grey(signal: Floats) -> NDArray[np.uint8]:
    return np.round(np.clip(signal, 0, 1) * 255).astype(np.uint8)


def _blur(values: Floats, across: float, down: float | None = None) -> Floats:
    """Blur with Gaussians (sigmas in pixels) by plain sums: the result does not depend on a library's thread count."""
    for axis, sigma in ((1, across), (0, across if down is None else down)):
        reach = max(1, round(3 * sigma))
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        taps /= taps.sum()
        padded = np.pad(values, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="wrap")
        length = values.shape[axis]
        values = sum(
            (t * np.take(padded, np.arange(k, k + length), axis) for k, t in enumerate(taps)),
            start=np.zeros_like(values),
        )
    return values
