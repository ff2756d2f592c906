"""MobileNetV2: a small stem with batch norms folded into its convolutions, and a map at the end of every
stage.

Sandler et al. 2018 (arXiv 1801.04381). The weights at hand are TensorFlow's, quantised to uint8; they are
dequantised when read, so what trains and runs here is float32. Padding is TensorFlow's SAME.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medlike.models.efficientnet_lite import same_padding

# Expansion, channels, repeats, stride of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
CHANNELS = tuple(channels for _, channels, _, _ in STAGES)
STRIDES = (2, 4, 8, 16, 16, 32, 32)
# The last block of each stage, counted over all blocks.
ENDS = tuple(sum(repeats for _, _, repeats, _ in STAGES[: stage + 1]) - 1 for stage in range(len(STAGES)))


class PaddedConv2d(nn.Conv2d):
    """A convolution with bias padded as TensorFlow's SAME: [N,C,H,W] -> [N,D,ceil(H/s),ceil(W/s)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = same_padding(int(x.shape[-2]), kernel, stride)
        left, right = same_padding(int(x.shape[-1]), kernel, stride)
        if top == bottom and left == right:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), 1, self.groups)
        x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class MobileNetBlock(nn.Module):
    """Expand (1x1), depthwise (3x3), project (1x1), with the input added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = PaddedConv2d(inputs, width, 1) if expansion != 1 else None
        self.depthwise = PaddedConv2d(width, width, 3, stride, groups=width)
        self.project = PaddedConv2d(width, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skips else y


class MobileNetV2(nn.Module):
    """MobileNetV2 without its 1280-channel head and classifier: 1.8 M parameters.

    Input float [N,3,H,W] in [0,1]; the scaling to (255 x - 128) / 128 is done inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = PaddedConv2d(3, STEM_CHANNELS, 3, 2)
        stages = []
        inputs = STEM_CHANNELS
        for expansion, channels, repeats, stride in STAGES:
            blocks = []
            for repeat in range(repeats):
                blocks.append(MobileNetBlock(inputs, channels, stride if repeat == 0 else 1, expansion))
                inputs = channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """The map at the end of each stage, strides 2, 4, 8, 16, 16, 32 and 32; x float [N,3,H,W] in
        [0,1]."""
        maps = self.forward_blocks(x)
        return [maps[end] for end in ENDS]

    def forward_blocks(self, x: Tensor) -> list[Tensor]:
        """The output of each of the 17 blocks; x float [N,3,H,W] in [0,1]."""
        y = F.relu6(self.first((x * 255.0 - 128.0) / 128.0))
        maps = []
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                y = block(y)
                maps.append(y)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """The deepest map: float [N,320,H/32,W/32]."""
        return self.forward_features(x)[-1]
