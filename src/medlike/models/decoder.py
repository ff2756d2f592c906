"""The decoder of stage 2: an image again from the deepest map, for the reconstruction error.

Nan et al. 2025 (arXiv 2503.09370): no skips; blocks of two 3x3 convolutions, each with InstanceNorm and
LeakyReLU, and bilinear upsampling; trained alone with everything else frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

# Upsampling after each block: 7 -> 14 -> 56 -> 224.
FACTORS = (2, 4, 4)


class Decoder(nn.Module):
    """Decode deep maps: [N, C, 7, 7] -> images float [N, 3, 224, 224], trained towards [0, 1].

    `blocks` are the (first, second) output widths of the two convolutions of each of the three blocks.
    """

    def __init__(self, channels: int, blocks: Sequence[tuple[int, int]] = ((512, 512), (256, 256), (128, 64))) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for first, second in blocks:
            block = nn.Sequential()
            for inputs, outputs in ((channels, first), (first, second)):
                block.extend((nn.Conv2d(inputs, outputs, 3, padding=1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.01)))
            self.blocks.append(block)
            channels = second
        self.output = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, deep: Tensor) -> Tensor:
        """Return the decoded images, float [N, 3, 224, 224]."""
        x = deep
        for block, factor in zip(self.blocks, FACTORS, strict=True):
            x = F.interpolate(block(x), scale_factor=float(factor), mode="bilinear", align_corners=False)
        return self.output(x)
