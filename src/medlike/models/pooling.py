"""Means of the feature maps of every depth, standardised: the untouched view of an image.

Averages of all depths of an ImageNet stem, each dimension standardised, retrieve images of unknown sources
better than the deepest layer alone or than tuned features, so the networks can carry them to code and
content.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn


class DepthPooling(nn.Module):
    """Put the means of maps of several depths side by side: float32 [N, P], P = sum of `channels`.

    `mean` and `std` are buffers of shape [P] kept with the weights; `standardise` applies them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.register_buffer("mean", torch.zeros(sum(self.channels)))
        self.register_buffer("std", torch.ones(sum(self.channels)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the means of maps, float [N, C, H, W] each: float32 [N, P]."""
        return torch.cat([y.float().mean(dim=(2, 3)) for y in maps], dim=1)

    def standardise(self, pooled: Tensor) -> Tensor:
        """Return (pooled - mean) / std, float32 [N, P]."""
        return (pooled - self.mean) / self.std

    def slices(self) -> list[slice]:
        """Return the columns of each depth, shallowest first."""
        return [slice(start, end) for start, end in pairwise(accumulate(self.channels, initial=0))]


class Centring(nn.Module):
    """Subtract the mean: of the batch in training, the running one in evaluation."""

    mean: Tensor

    def __init__(self, width: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, float [N, D], less the mean."""
        if not self.training:
            return x - self.mean
        mean = x.float().mean(dim=0)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
        return x - mean


def depth_statistics(pooled: Tensor, channels: Sequence[int], floor: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Return mean and deviation by which every depth weighs alike.

    (pooled - mean) / std has mean square 1 / len(channels): each dimension is standardised and each depth divided by
    the root of (its width times the number of depths), so rows have a squared norm of about 1.

    Args:
        pooled: float [N, P] over a fitting set.
        channels: Width of each depth.
        floor: Dimensions that vary less than this times the mean deviation of their depth are treated as if they
            varied so much.

    Returns:
        Mean and deviation, float32 [P] each.
    """
    pooled = pooled.double()
    mean = pooled.mean(dim=0)
    std = pooled.std(dim=0, correction=0)
    scaled = []
    for part in std.split(list(channels)):
        least = torch.clamp(floor * part.mean(), min=1e-12)
        scaled.append(part.clamp(min=least) * (len(part) * len(channels)) ** 0.5)
    return mean.float(), torch.cat(scaled).float()
