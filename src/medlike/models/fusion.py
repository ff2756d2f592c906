"""DaRF, depth-aware representation fusion: cross-attention between a shallow and a deep map.

Nan et al. 2025 (arXiv 2503.09370). Their figure and released code let shallow queries look at deep keys and
values; their text says the opposite. The direction is a setting.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.attention import attend

SIDE = 7


class AdaptivePool(nn.Module):
    """AdP: BatchNorm, ReLU and average pooling to 7x7: [N,C,H,W] -> [N,C,7,7]."""

    def __init__(self, channels: int, side: int = SIDE) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(x))
        h, w = y.shape[-2:]
        if (h, w) == (self.side, self.side):
            return y
        return F.adaptive_avg_pool2d(y, self.side)


class DepthFusion(nn.Module):
    """softmax(Q K^T / sqrt(d)) V between two depths, 1x1 convolution, average: two maps -> [N,outputs].

    shallow: [N,shallow_channels,h,w]; deep: [N,deep_channels,h,w]. `query` names the depth that asks.
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
        asking, asked = (shallow_channels, deep_channels)
        if query == "deep":
            asking, asked = asked, asking
        self.query_depth = query
        self.heads = heads
        width = heads * head_width
        self.query = nn.Conv2d(asking, width, 1, bias=False)
        self.key = nn.Conv2d(asked, width, 1, bias=False)
        self.value = nn.Conv2d(asked, width, 1, bias=False)
        self.output = nn.Conv2d(width, outputs, 1)

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        asking, asked = (shallow, deep) if self.query_depth == "shallow" else (deep, shallow)
        h, w = asking.shape[-2:]
        query, key, value = (
            self._split(self.query(asking)),
            self._split(self.key(asked)),
            self._split(self.value(asked)),
        )
        mixed = attend(query, key, value)
        mixed = mixed.transpose(2, 3).reshape(mixed.shape[0], -1, h, w)
        return self.output(mixed).mean(dim=(2, 3))

    def _split(self, x: Tensor) -> Tensor:
        """[N, heads d, h, w] -> [N, heads, h w, d]."""
        return x.reshape(x.shape[0], self.heads, -1, x.shape[-2] * x.shape[-1]).transpose(2, 3)
