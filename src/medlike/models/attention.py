"""Attention on feature maps: in windows of 7x7 (ConvMSA) and over all pixels as tokens (PiT).

Nan et al. 2025 (arXiv 2503.09370), section on the network; methods as in the vision transformer
(Dosovitskiy et al. 2021) and windows with relative positions (Liu et al. 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError

WINDOW = 7


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, dropout: float = 0.0) -> Tensor:
    """Return softmax(Q K^T / sqrt(d) + bias) V.

    Written out, since the sequences are short and the fused kernels' memory layouts differ between devices and the
    exporter.

    Args:
        query: [..., T, d].
        key: [..., S, d].
        value: [..., S, e].
        bias: [T, S].
        dropout: Share of the weights set to zero.

    Returns:
        [..., T, e], of the type of `value`.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return weights.to(value.dtype) @ value


def relative_index(side: int) -> Tensor:
    """Return for each pair of cells of a side x side window the place of their offset in a (2 side - 1)^2 table.

    Returns:
        int64 [side^2, side^2], a row for each query cell, a column for each key cell.
    """
    place = torch.arange(side)
    cells = torch.stack(torch.meshgrid(place, place, indexing="ij"), dim=-1).reshape(-1, 2)
    offset = cells[:, None] - cells[None] + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]


def windows(x: Tensor, side: int = WINDOW) -> Tensor:
    """Cut maps into windows: [N, C, H, W] -> [N (H/side)(W/side), side^2, C]; row-major in image and window."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, c)


def unwindows(x: Tensor, height: int, width: int, side: int = WINDOW) -> Tensor:
    """Join windows to maps, the inverse of `windows`: [N (H/side)(W/side), side^2, C] -> [N, C, H, W]."""
    c = x.shape[-1]
    x = x.reshape(-1, height // side, width // side, side, side, c)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, c, height, width)


class ConvMSA(nn.Module):
    """Attend inside windows of 7x7, with a residual: [N, C, H, W] -> the same, H and W multiples of 7.

    Queries, keys, values and the output are 1x1 convolutions; `heads` of `head_width` channels. One learned
    13x13 table of relative positions is shared by the heads.
    """

    index: Tensor

    def __init__(self, channels: int, heads: int = 8, head_width: int = 64) -> None:
        super().__init__()
        width = heads * head_width
        self.heads = heads
        self.query_key_value = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.output = nn.Conv2d(width, channels, 1)
        self.position = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2))
        self.register_buffer("index", relative_index(WINDOW), persistent=False)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed maps, float [N, C, H, W]. TrainingError where they cannot be cut into windows."""
        h, w = x.shape[-2:]
        if h % WINDOW or w % WINDOW:
            raise TrainingError(
                f"a map of {h}x{w} cannot be cut into windows of {WINDOW}x{WINDOW}; use images of a multiple of 224"
            )
        tokens = windows(self.query_key_value(x))
        tokens = tokens.reshape(tokens.shape[0], WINDOW * WINDOW, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = tokens[0], tokens[1], tokens[2]
        mixed = attend(query, key, value, self.position[self.index])
        mixed = mixed.permute(0, 2, 1, 3).reshape(tokens.shape[1], WINDOW * WINDOW, -1)
        return x + self.output(unwindows(mixed, h, w))


class Block(nn.Module):
    """Apply a pre-norm transformer layer: [N, T, D] -> [N, T, D]."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed tokens, float [N, T, D]."""
        n, t, d = x.shape
        tokens = self.query_key_value(self.norm1(x)).reshape(n, t, 3, self.heads, d // self.heads)
        query, key, value = tokens.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = attend(query, key, value, dropout=dropout)
        x = x + self._drop(self.output(mixed.transpose(1, 2).reshape(n, t, d)))
        return x + self._drop(self.narrow(self._drop(F.gelu(self.widen(self.norm2(x))))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class PixelTransformer(nn.Module):
    """PiT: a vision transformer whose tokens are the positions of a map; the outputs of all layers are returned.

    [N, C, H, W] -> `depth` tensors [N, 1 + H W, width]; token 0 is CLS, the others are row-major. H W is fixed.
    """

    def __init__(
        self,
        channels: int,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        dropout: float = 0.1,
        positions: int = WINDOW * WINDOW,
    ) -> None:
        super().__init__()
        self.positions = positions
        self.dropout = dropout
        self.enter = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, width), nn.LayerNorm(width))
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.zeros(1, 1 + positions, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden, dropout) for _ in range(depth))
        nn.init.trunc_normal_(self.cls, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the tokens after each layer, float [N, 1 + H W, width]. TrainingError for maps of another size."""
        h, w = x.shape[-2:]
        if h * w != self.positions:
            raise TrainingError(
                f"a map of {h}x{w} has {h * w} pixels, this transformer takes {self.positions}; use images of 224x224"
            )
        tokens = self.enter(x.flatten(2).transpose(1, 2))
        tokens = torch.cat([self.cls.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = F.dropout(tokens + self.position.to(tokens.dtype), self.dropout, self.training)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs
