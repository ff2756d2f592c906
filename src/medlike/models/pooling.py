"""Means of the feature maps of every depth, standardised: the untouched view of an image.

Averages of all depths of an ImageNet stem, each dimension standardised, retrieve images of unknown sources
better than the deepest layer alone or than tuned features, so the networks can carry them to code and
content.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DepthPooling(nn.Module):
    """Maps of several depths -> their means side by side: float32 [N,P], P = sum of `channels`.

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
        return torch.cat([y.float().mean(dim=(2, 3)) for y in maps], dim=1)

    def standardise(self, pooled: Tensor) -> Tensor:
        """(pooled - mean) / std, float32 [N,P]."""
        return (pooled - self.mean) / self.std

    def slices(self) -> list[slice]:
        """The columns of each depth, shallowest first."""
        found, start = [], 0
        for width in self.channels:
            found.append(slice(start, start + width))
            start += width
        return found


class Centring(nn.Module):
    """Subtract the mean: of the batch in training, the running one in evaluation; float [N,D] -> [N,D]."""

    mean: Tensor

    def __init__(self, width: int, momentum: float = 0.02) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.mean
        mean = x.float().mean(dim=0)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
        return x - mean


def depth_statistics(pooled: Tensor, channels: Sequence[int], floor: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Mean and deviation by which every depth weighs alike: (pooled - mean) / std has mean square
    1/len(channels).

    pooled: float [N,P] over a fitting set; channels: the width of each depth. Each dimension is standardised
    and each depth divided by the root of (its width times the number of depths), so rows have a squared norm
    of about 1. Dimensions that vary less than `floor` times the mean deviation of their depth are held to
    that.
    """
    pooled = pooled.double()
    mean = pooled.mean(dim=0)
    std = pooled.std(dim=0, correction=0)
    start, scaled = 0, torch.empty_like(std)
    for width in channels:
        part = std[start : start + width]
        least = torch.clamp(floor * part.mean(), min=1e-12)
        scaled[start : start + width] = part.clamp(min=least) * (width * len(channels)) ** 0.5
        start += width
    return mean.float(), scaled.float()
