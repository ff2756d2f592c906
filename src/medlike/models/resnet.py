"""ResNet-50: the stem of the published presets, with a map at every stage.

He et al. 2016 (arXiv 1512.03385). The stride of a stage sits in its first 1x1 convolution (v1, the original
and Keras) or in its 3x3 convolution (v1.5, most PyTorch weights): the shapes of the parameters are the same,
the features are not, so it is a setting that has to match the weights. Parameter names are the common ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.pretrained import fit, read_state

# What is subtracted and divided by, per channel, on RGB in [0, 1].
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "mean": ((0.4850, 0.4576, 0.4076), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
# How keys of a classifier begin in weight files.
IGNORED = ("fc.", "classifier.", "head.")
# Planes of the 3x3 convolutions, blocks and stride of each stage.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4
CHANNELS = tuple(planes * EXPANSION for planes, _, _ in STAGES)


@dataclass(frozen=True)
class ResNetSettings:
    """Settings of the stem.

    Attributes:
        stride: "v1" (in the first 1x1 convolution of a stage) or "v1.5" (in its 3x3).
        normalisation: "mean" (subtract the ImageNet mean, divide by nothing), "imagenet" (mean and deviation),
            "symmetric" ([-1, 1]) or "none".
    """

    stride: str = "v1"
    normalisation: str = "mean"


class Bottleneck(nn.Module):
    """Convolve 1x1, 3x3, 1x1 with a shortcut: [N, C, H, W] -> [N, 4 planes, H/stride, W/stride]."""

    def __init__(self, inputs: int, planes: int, stride: int, first: bool, stride_in_1x1: bool) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = nn.Conv2d(inputs, planes, 1, stride=stride if stride_in_1x1 else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1 if stride_in_1x1 else stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()  # as it is
        if first:
            self.downsample.append(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))
            self.downsample.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class ResNet50(nn.Module):
    """ResNet-50 without its classifier: 23.5 M parameters.

    Input float [N, 3, H, W] in [0, 1]; the normalisation is done inside.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: ResNetSettings = ResNetSettings()) -> None:
        super().__init__()
        if settings.normalisation not in NORMALISATIONS:
            raise TrainingError(
                f"normalisation {settings.normalisation!r} is unknown; known: {', '.join(NORMALISATIONS)}"
            )
        if settings.stride not in ("v1", "v1.5"):
            raise TrainingError(f"stride {settings.stride!r} is unknown; known: v1, v1.5")
        self.settings = settings
        mean, std = NORMALISATIONS[settings.normalisation]
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (planes, blocks, stride) in enumerate(STAGES, start=1):
            stage = nn.Sequential()
            for block in range(blocks):
                step = stride if block == 0 else 1
                stage.append(Bottleneck(inputs, planes, step, block == 0, settings.stride == "v1"))
                inputs = planes * EXPANSION
            self.add_module(f"layer{number}", stage)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Return the maps of the four stages, strides 4, 8, 16 and 32: float [N, C, H/s, W/s], C as CHANNELS."""
        y = F.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
        y = F.max_pool2d(y, 3, stride=2, padding=1)
        maps = []
        for number in range(1, len(STAGES) + 1):
            y = self.get_submodule(f"layer{number}")(y)
            maps.append(y)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Return the deepest map: float [N, 2048, H/32, W/32]."""
        return self.forward_features(x)[-1]


def load_resnet(path: str | Path | None = None, settings: ResNetSettings = ResNetSettings()) -> ResNet50:
    """Return the stem in evaluation mode, with the weights of a file or random ones.

    ImageNet and RadImageNet state dicts of the common ResNet-50 layout load as they are: prefixes such as `module.`
    and `backbone.` are stripped, numbered stages of a Sequential are named, the classifier is ignored.

    Args:
        path: A .safetensors, .pt or .pth file; None for random weights.
        settings: Where the strides sit, and the normalisation.

    Raises:
        BundleError: The file cannot be read or does not fit; the message lists what.
    """
    network = ResNet50(settings).eval()
    if path is not None:
        fit(network, read_state(path), name="ResNet-50", path=path, ignored=IGNORED)
    return network
