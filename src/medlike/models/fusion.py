"""DaRF, depth-aware representation fusion: cross-attention between a shallow and a deep map.

Nan et al. 2025 (arXiv 2503.09370). Their figure and released code let shallow queries look at deep keys and
values; their text says the opposite. The direction is a setting.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.attention import attend

SIDE = 7

T = TypeVar("T", int, Tensor)


class AdaptivePool(nn.Module):
    """AdP: apply BatchNorm and ReLU and pool to 7x7 by averages: [N, C, H, W] -> [N, C, 7, 7]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled maps, float [N, C, 7, 7]."""
        y = F.relu(self.norm(x))
        return y if tuple(y.shape[-2:]) == (SIDE, SIDE) else F.adaptive_avg_pool2d(y, SIDE)


class DepthFusion(nn.Module):
    """Attend between two depths, softmax(Q K^T / sqrt(d)) V, then convolve 1x1 and average: two maps -> [N, outputs].

    `query` names the depth that the queries come from; keys and values come from the other.
    """

    def __init__(
        self,
        shallow_channels: int,
        deep_channels: int,
        outputs: int = 512,
        heads: int = 12,
        head_width: int = 128,
        query: Literal["shallow", "deep"] = "shallow",
    ) -> None:
        super().__init__()
        if query not in ("shallow", "deep"):
            raise TrainingError(f"query {query!r} is unknown; known: shallow, deep")
        self.query_depth = query
        self.heads = heads
        width = heads * head_width
        query_channels, key_channels = self._ordered(shallow_channels, deep_channels)
        self.query = nn.Conv2d(query_channels, width, 1, bias=False)
        self.key = nn.Conv2d(key_channels, width, 1, bias=False)
        self.value = nn.Conv2d(key_channels, width, 1, bias=False)
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Return the fused depths, float [N, outputs], of maps [N, C, h, w] each."""
        source, target = self._ordered(shallow, deep)
        h, w = source.shape[-2:]
        mixed = attend(
            self._split(self.query(source)), self._split(self.key(target)), self._split(self.value(target))
        )
        mixed = mixed.transpose(2, 3).reshape(mixed.shape[0], -1, h, w)
        return self.output(mixed).mean(dim=(2, 3))

    def _ordered(self, shallow: T, deep: T) -> tuple[T, T]:
        return (shallow, deep) if self.query_depth == "shallow" else (deep, shallow)

    def _split(self, x: Tensor) -> Tensor:
        """Split channels into heads: [N, heads d, h, w] -> [N, heads, h w, d]."""
        return x.reshape(x.shape[0], self.heads, -1, x.shape[-2] * x.shape[-1]).transpose(2, 3)
