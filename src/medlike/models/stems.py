"""The stems by name: the maps each returns, how wide and how coarse they are, and how weights load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models import efficientnet_lite, mobilenet
from medlike.models.efficientnet_lite import EfficientNetLite
from medlike.models.mobilenet import MobileNetV2
from medlike.models.pretrained import fit, read_state
from medlike.models.resnet import CHANNELS, IGNORED, ResNet50, ResNetSettings


@dataclass(frozen=True)
class StemKind:
    """Everything there is to know of one kind of stem.

    Attributes:
        body: Its module; only ResNet50 takes settings.
        features: (module, images) -> maps, shallowest first.
        channels: Channels of those maps.
        strides: Strides of those maps, in pixels of the input.
        ignored: How keys of weight files begin that are no part of the stem.
    """

    body: type[nn.Module]
    features: Callable[..., list[Tensor]]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    ignored: tuple[str, ...] = ()


_LITE_IGNORED = ("_conv_head.", "_bn1.", "_fc.")

STEMS: dict[str, StemKind] = {
    "resnet50": StemKind(ResNet50, ResNet50.forward_features, CHANNELS, (4, 8, 16, 32), IGNORED),
    "efficientnet_lite0": StemKind(
        EfficientNetLite,
        EfficientNetLite.forward_features,
        tuple(channels for *_, channels, _ in efficientnet_lite.STAGES),
        (2, 4, 8, 16, 16, 32, 32),
        _LITE_IGNORED,
    ),
    # The same weights with the map of every block: means of all 16 retrieve better than the stages alone.
    "efficientnet_lite0_blocks": StemKind(
        EfficientNetLite,
        EfficientNetLite.forward_blocks,
        tuple(channels for *_, channels, repeats in efficientnet_lite.STAGES for _ in range(repeats)),
        (2, 4, 4, 8, 8, *[16] * 6, *[32] * 5),
        _LITE_IGNORED,
    ),
    "mobilenet_v2": StemKind(
        MobileNetV2,
        MobileNetV2.forward_features,
        tuple(channels for _, channels, _, _ in mobilenet.STAGES),
        (2, 4, 8, 16, 16, 32, 32),
    ),
    "mobilenet_v2_blocks": StemKind(
        MobileNetV2,
        MobileNetV2.forward_blocks,
        tuple(channels for _, channels, repeats, _ in mobilenet.STAGES for _ in range(repeats)),
        (2, 4, 4, 8, 8, 8, *[16] * 7, *[32] * 4),
    ),
}


class Stem(nn.Module):
    """Run a stem by name: images float [N, 3, H, W] in [0, 1] -> maps, shallowest first.

    `stride` and `normalisation` are those of ResNetSettings; the other stems have none.
    """

    def __init__(self, name: str, stride: str = "v1", normalisation: str = "mean") -> None:
        super().__init__()
        if name not in STEMS:
            raise TrainingError(f"stem {name!r} is unknown; known: {', '.join(STEMS)}")
        self.name = name
        self.kind = STEMS[name]
        settings = (ResNetSettings(stride, normalisation),) if self.kind.body is ResNet50 else ()
        self.body = self.kind.body(*settings)

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of each map."""
        return self.kind.channels

    def at(self, stride: int) -> int:
        """Return the index of the deepest map of a stride; TrainingError lists the strides where there is none."""
        indices = [index for index, known in enumerate(self.kind.strides) if known == stride]
        if not indices:
            raise TrainingError(f"{self.name} has no map of stride {stride}; known: {sorted(set(self.kind.strides))}")
        return indices[-1]

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the maps of images, float [N, C, H/stride, W/stride] each."""
        return self.kind.features(self.body, images)

    def load(self, path: str | Path) -> None:
        """Load the weights of a file, without its classifier. BundleError lists what does not fit."""
        fit(self.body, read_state(path), name=self.name, path=path, ignored=self.kind.ignored)
