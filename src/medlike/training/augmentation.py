"""Augmentation of grey pictures on tensors: the same code on a CPU and on a GPU.

`radiology` is the published recipe (flips and a random resized crop); `strong` adds what separates one site
from another: gain, gamma, inversion, bias field, blur, noise, and masked text strips. Every random number
comes from the generator that is passed in, so a seed fixes the views.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medlike.errors import TrainingError


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; probabilities in [0,1], angles in degrees, scales as shares."""

    scale: tuple[float, float] = (0.8, 1.0)
    aspect: float = 0.0
    rotation: float = 0.0
    horizontal: float = 0.5
    vertical: float = 0.5
    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    inversion: float = 0.0
    bias_field: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    strips: float = 0.0


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(scale=(1.0, 1.0), horizontal=0.0, vertical=0.0),
    "radiology": Augmentation(),
    "strong": Augmentation(
        scale=(0.75, 1.1),
        aspect=0.15,
        rotation=15.0,
        vertical=0.2,
        gamma=0.7,
        contrast=0.4,
        brightness=0.2,
        inversion=0.05,
        bias_field=0.25,
        blur=0.25,
        noise=0.06,
        strips=0.25,
    ),
}


def augmentation(name: str) -> Augmentation:
    """Return the named augmentation; TrainingError lists the known names."""
    if name not in AUGMENTATIONS:
        raise TrainingError(f"unknown augmentation {name!r}; known: {', '.join(sorted(AUGMENTATIONS))}")
    return AUGMENTATIONS[name]


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Return randomly changed copies: float [N,1,H,W] in [0,1] in, the same shape and range out.

    `generator` lives on the images' device.
    """
    x = _geometry(images, settings, generator)
    return _intensity(x, settings, generator)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, device=generator.device)


def _geometry(x: Tensor, s: Augmentation, generator: torch.Generator) -> Tensor:
    n = len(x)
    low, high = s.scale
    scale = low + (high - low) * _uniform(generator, n)
    aspect = torch.exp((2 * _uniform(generator, n) - 1) * s.aspect)
    # Half the pictures stay upright, as most of a gallery is.
    angle = (2 * _uniform(generator, n) - 1) * math.radians(s.rotation) * (_uniform(generator, n) < 0.5)
    flip_x = torch.where(_uniform(generator, n) < s.horizontal, -1.0, 1.0)
    flip_y = torch.where(_uniform(generator, n) < s.vertical, -1.0, 1.0)
    # The crop's centre moves as far as the crop stays inside the picture, and a little at full size.
    room = (1 - scale).clamp(min=0.05 if s.rotation else 0.0)
    shift_x, shift_y = ((2 * _uniform(generator, n) - 1) * room for _ in range(2))
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * scale * aspect * flip_x, -sin * scale * flip_y, shift_x], 1),
            torch.stack([sin * scale * flip_x, cos * scale / aspect * flip_y, shift_y], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _intensity(x: Tensor, s: Augmentation, generator: torch.Generator) -> Tensor:
    n, _, height, width = x.shape

    def each() -> Tensor:
        return _uniform(generator, n, 1, 1, 1)

    if s.gamma:
        x = x.clamp(1e-4, 1) ** torch.exp((2 * each() - 1) * s.gamma)
    if s.contrast or s.brightness:
        gain = 1 + (2 * each() - 1) * s.contrast
        x = (x - 0.5) * gain + 0.5 + (2 * each() - 1) * s.brightness
    if s.inversion:
        x = torch.where(each() < s.inversion, 1 - x, x)
    if s.bias_field:
        field = torch.randn(n, 1, 3, 3, generator=generator, device=generator.device) * s.bias_field
        field = F.interpolate(field, (height, width), mode="bilinear", align_corners=False)
        x = torch.where(each() < 0.3, x * torch.exp(field), x)
    if s.blur:
        small = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        soft = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
        x = torch.where(each() < s.blur, soft, x)
    if s.noise:
        grain = torch.randn(x.shape, generator=generator, device=generator.device)
        x = x + grain * s.noise * each() * (each() < 0.5)
    if s.strips:
        x = _blank_strip(x, s.strips, generator)
    return x.clamp(0, 1)


def _blank_strip(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Black out one border strip: burned-in text sits there, and the source must not be recognisable by it."""
    n, _, height, width = x.shape
    share = 0.04 + 0.1 * _uniform(generator, n, 1, 1)
    side = torch.randint(0, 4, (n, 1, 1), generator=generator, device=generator.device)
    chosen = _uniform(generator, n, 1, 1) < probability
    rows = torch.linspace(0, 1, height, device=x.device)[None, :, None]
    columns = torch.linspace(0, 1, width, device=x.device)[None, None, :]
    strip = torch.where(
        side == 0,
        rows < share,
        torch.where(side == 1, rows > 1 - share, torch.where(side == 2, columns < share, columns > 1 - share)),
    )
    return x * ~(strip & chosen)[:, None]
