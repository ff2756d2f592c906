"""The vector that the outlier score reads: linear maps of the pooled depths and of the blended feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OutlierMap(nn.Module):
    """Map pooled depths [N, P] and blended feature [N, D] to float32 [N, pooled_outputs + feature_outputs].

    Fitted after training and without gradients (see training.outlier_fit). mean, std: buffers [P], as in
    DepthPooling; centre: buffer [D]. feature_outputs 0 leaves the blended feature out.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor

    def __init__(self, pooled: int, pooled_outputs: int, feature: int, feature_outputs: int = 0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(pooled))
        self.register_buffer("std", torch.ones(pooled))
        self.from_pooled = nn.Linear(pooled, pooled_outputs, bias=False)
        self.from_feature = nn.Linear(feature, feature_outputs, bias=False) if feature_outputs else None
        if feature_outputs:
            self.register_buffer("centre", torch.zeros(feature))

    def forward(self, pooled: Tensor, feature: Tensor) -> Tensor:
        """Return the vectors that the outlier score reads, float32 [N, pooled_outputs + feature_outputs]."""
        depths = self.from_pooled((pooled.float() - self.mean) / self.std)
        if self.from_feature is None:
            return depths
        return torch.cat([depths, self.from_feature(feature.float() - self.centre)], dim=1)
