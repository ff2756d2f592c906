"""EfficientNet-Lite0: the small stem, with a map at every depth.

Tan and Le 2019 (arXiv 1905.11946), the Lite variant: no squeeze-and-excite, ReLU6, and a stem of fixed width.
Parameter names are those of the package efficientnet_lite_pytorch, so that its ImageNet weights load by name.
Padding is TensorFlow's SAME.
"""

from __future__ import annotations

from itertools import accumulate

import torch.nn.functional as F
from torch import Tensor, nn

from medlike.models.padding import PaddedConv2d

# Expansion, kernel, stride, channels, repeats of each stage.
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM_CHANNELS = 32
# The last block of each stage, counted over all blocks.
ENDS = tuple(end - 1 for end in accumulate(repeats for *_, repeats in STAGES))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> PaddedConv2d:
    return PaddedConv2d(inputs, outputs, kernel, stride, groups, bias=False)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand (1x1), convolve each channel (k x k), project (1x1); the input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = _convolution(inputs, width, 1)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = _convolution(width, width, kernel, stride, groups=width)
        self._bn1 = _batch_norm(width)
        self._project_conv = _convolution(width, outputs, 1)
        self._bn2 = _batch_norm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map: [N, C, H, W] -> [N, D, ceil(H/stride), ceil(W/stride)]."""
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without head and classifier: 2.96 M parameters.

    Input float [N, 3, H, W] in [0, 1]; the scaling to (255 x - 127) / 128 is done inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _convolution(3, STEM_CHANNELS, 3, 2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList()
        width = STEM_CHANNELS
        for expansion, kernel, stride, channels, repeats in STAGES:
            for step in (stride, *[1] * (repeats - 1)):
                self._blocks.append(InvertedResidual(width, channels, kernel, step, expansion))
                width = channels

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the map at the end of each stage, strides 2, 4, 8, 16, 16, 32 and 32; x as for the class."""
        maps = self.forward_blocks(x)
        return [maps[end] for end in ENDS]

    def forward_blocks(self, x: Tensor) -> list[Tensor]:
        """Return the output of each of the 16 blocks: float [N, C, ceil(H/s), ceil(W/s)]; x as for the class."""
        y = F.relu6(self._bn0(self._conv_stem((x * 255.0 - 127.0) / 128.0)))
        maps = []
        for block in self._blocks:
            y = block(y)
            maps.append(y)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the deepest map: float [N, 320, H/32, W/32]."""
        return self.forward_blocks(x)[-1]
