"""How much an image is like those a network was trained on, from the untouched features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Typicality(nn.Module):
    """Compute how typical each image is from the linear part of unit length.

    sigmoid((middle - d) / width), d the Mahalanobis distance to the nearest of `centres`: Euclidean after
    `whitening` [D, D], in whose coordinates the centres [C, D] are. Buffers, fitted without labels (see
    training.start); before that every image is typical.
    """

    centres: Tensor
    whitening: Tensor
    middle: Tensor
    width: Tensor

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(count, inputs))
        self.register_buffer("whitening", torch.eye(inputs))
        self.register_buffer("middle", torch.tensor(1e4))
        self.register_buffer("width", torch.tensor(1.0))

    def forward(self, unit: Tensor) -> Tensor:
        """Return the typicality, float32 [N, 1] in (0, 1), of unit vectors, float [N, D]."""
        return torch.sigmoid((self.middle - self.distance(unit)) / self.width)

    def distance(self, unit: Tensor) -> Tensor:
        """Return the distance to the nearest centre, float32 [N, 1]."""
        placed = unit.float() @ self.whitening
        squares = (placed**2).sum(dim=1, keepdim=True) + (self.centres**2).sum(dim=1) - 2 * placed @ self.centres.T
        return squares.amin(dim=1, keepdim=True).clamp(min=0).sqrt()
