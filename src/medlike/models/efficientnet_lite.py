"""EfficientNet-Lite0: the small stem, with a tap at every depth.

Tan and Le 2019 (arXiv 1905.11946), the Lite variant: no squeeze-and-excite, ReLU6, and stem and head of
fixed width. Parameter names are those of the package efficientnet_lite_pytorch, so that its ImageNet weights
load by name. Padding is TensorFlow's SAME: of an odd total, the extra row and column go to bottom and right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

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
HEAD_CHANNELS = 1280
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.01

# Index of the last block at each stride: the maps that `forward_features` returns.
TAPS = {2: 0, 4: 2, 8: 4, 16: 10, 32: 15}
TAP_CHANNELS = {2: 16, 4: 24, 8: 40, 16: 112, 32: 320}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after one axis of length `size`, as TensorFlow's SAME places it."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution without bias padded as TensorFlow's SAME: [N,C,H,W] -> [N,D,ceil(H/s),ceil(W/s)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel > 1:
            top, bottom = same_padding(int(x.shape[-2]), kernel, stride)
            left, right = same_padding(int(x.shape[-1]), kernel, stride)
            if top == bottom and left == right:
                return F.conv2d(x, self.weight, None, self.stride, (top, left), self.dilation, self.groups)
            x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, self.weight, None, self.stride, 0, self.dilation, self.groups)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (k x k), project (1x1), with the input added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = SameConv2d(inputs, width, 1)
            self._bn0 = _batch_norm(width)
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _batch_norm(width)
        self._project_conv = SameConv2d(width, outputs, 1)
        self._bn2 = _batch_norm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


@dataclass(frozen=True)
class EfficientNetLiteSettings:
    """Settings of the stem: `head` keeps the 1280-channel 1x1 convolution after the last stage."""

    head: bool = False


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: 2.96 M parameters, 3.37 M with the head.

    Input float [N,3,H,W] in [0,1]; the scaling to (255 x - 127) / 128 is done inside.
    """

    def __init__(self, settings: EfficientNetLiteSettings = EfficientNetLiteSettings()) -> None:
        super().__init__()
        self.settings = settings
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        self._bn0 = _batch_norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        width = STEM_CHANNELS
        for expansion, kernel, stride, channels, repeats in STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedResidual(width, channels, kernel, step, expansion))
                width = channels
        self._blocks = nn.ModuleList(blocks)
        if settings.head:
            self._conv_head = SameConv2d(width, HEAD_CHANNELS, 1)
            self._bn1 = _batch_norm(HEAD_CHANNELS)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32: float [N,C,ceil(H/s),ceil(W/s)], C = 16, 24, 40, 112, 320.

        x: float [N,3,H,W] in [0,1].
        """
        wanted = set(TAPS.values())
        return [y for index, y in enumerate(self._maps(x)) if index in wanted]

    def forward_blocks(self, x: Tensor) -> list[Tensor]:
        """The output of each of the 16 blocks, then of the head if kept; x float [N,3,H,W] in [0,1]."""
        maps = self._maps(x)
        if self.settings.head:
            maps.append(F.relu6(self._bn1(self._conv_head(maps[-1]))))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """The deepest map: float [N,320,H/32,W/32], or [N,1280,H/32,W/32] with the head; x in [0,1]."""
        return self.forward_blocks(x)[-1]

    def _maps(self, x: Tensor) -> list[Tensor]:
        y = F.relu6(self._bn0(self._conv_stem((x * 255.0 - 127.0) / 128.0)))
        maps = []
        for block in self._blocks:
            y = block(y)
            maps.append(y)
        return maps
