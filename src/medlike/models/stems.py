"""The stems by name: the maps each returns, how wide and how coarse they are, and how weights load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models import efficientnet_lite, mobilenet, resnet
from medlike.models.pretrained import fit, read_state


@dataclass(frozen=True)
class StemKind:
    """What there is to know of one kind of stem.

    build: (stride placement, normalisation) -> module; features: (module, images) -> maps, shallowest first;
    channels and strides of those maps; ignored: first letters of keys in weight files that are no part of it.
    """

    build: Callable[[str, str], nn.Module]
    features: Callable[[nn.Module, Tensor], list[Tensor]]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    ignored: tuple[str, ...]


def _stage_ends() -> tuple[int, ...]:
    ends, count = [], -1
    for *_, repeats in efficientnet_lite.STAGES:
        count += repeats
        ends.append(count)
    return tuple(ends)


LITE_ENDS = _stage_ends()


def _build_resnet(stride: str, normalisation: str) -> nn.Module:
    return resnet.ResNet50(resnet.ResNetSettings(stride, normalisation))  # type: ignore[arg-type]


def _resnet_features(stem: nn.Module, images: Tensor) -> list[Tensor]:
    assert isinstance(stem, resnet.ResNet50)
    return stem.forward_features(images)


def _build_lite(stride: str, normalisation: str) -> nn.Module:
    return efficientnet_lite.EfficientNetLite()


def _lite_features(stem: nn.Module, images: Tensor) -> list[Tensor]:
    assert isinstance(stem, efficientnet_lite.EfficientNetLite)
    maps = stem.forward_blocks(images)
    return [maps[index] for index in LITE_ENDS]


def _lite_every_block(stem: nn.Module, images: Tensor) -> list[Tensor]:
    assert isinstance(stem, efficientnet_lite.EfficientNetLite)
    return stem.forward_blocks(images)


def _build_mobilenet(stride: str, normalisation: str) -> nn.Module:
    return mobilenet.MobileNetV2()


def _mobilenet_features(stem: nn.Module, images: Tensor) -> list[Tensor]:
    assert isinstance(stem, mobilenet.MobileNetV2)
    return stem.forward_features(images)


def _mobilenet_every_block(stem: nn.Module, images: Tensor) -> list[Tensor]:
    assert isinstance(stem, mobilenet.MobileNetV2)
    return stem.forward_blocks(images)


STEMS: dict[str, StemKind] = {
    "resnet50": StemKind(
        _build_resnet,
        _resnet_features,
        resnet.CHANNELS,
        (4, 8, 16, 32),
        ("fc.", "classifier.", "head."),
    ),
    "efficientnet_lite0": StemKind(
        _build_lite,
        _lite_features,
        tuple(stage[3] for stage in efficientnet_lite.STAGES),
        (2, 4, 8, 16, 16, 32, 32),
        ("_conv_head.", "_bn1.", "_fc."),
    ),
    # The same weights with the map of every block: means of all 16 retrieve better than the stages alone.
    "efficientnet_lite0_blocks": StemKind(
        _build_lite,
        _lite_every_block,
        tuple(stage[3] for stage in efficientnet_lite.STAGES for _ in range(stage[4])),
        (2, 4, 4, 8, 8, *[16] * 6, *[32] * 5),
        ("_conv_head.", "_bn1.", "_fc."),
    ),
    "mobilenet_v2": StemKind(_build_mobilenet, _mobilenet_features, mobilenet.CHANNELS, mobilenet.STRIDES, ()),
    "mobilenet_v2_blocks": StemKind(
        _build_mobilenet,
        _mobilenet_every_block,
        tuple(channels for _, channels, repeats, _ in mobilenet.STAGES for _ in range(repeats)),
        (2, 4, 4, 8, 8, 8, *[16] * 7, *[32] * 4),
        (),
    ),
}


class Stem(nn.Module):
    """A stem by name: images float [N,3,H,W] in [0,1] -> maps, shallowest first."""

    def __init__(self, name: str, stride: str = "v1", normalisation: str = "mean") -> None:
        super().__init__()
        if name not in STEMS:
            raise TrainingError(f"stem {name!r} is unknown; known: {', '.join(STEMS)}")
        self.name = name
        self.kind = STEMS[name]
        self.body = self.kind.build(stride, normalisation)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each map."""
        return self.kind.channels

    def at(self, stride: int) -> int:
        """The index of the deepest map of a stride."""
        places = [index for index, found in enumerate(self.kind.strides) if found == stride]
        if not places:
            raise TrainingError(f"{self.name} has no map of stride {stride}; known: {sorted(set(self.kind.strides))}")
        return places[-1]

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.kind.features(self.body, images)

    def load(self, path: str | Path) -> None:
        """Load weights of a file, its classifier passed over. BundleError lists what does not fit."""
        fit(self.body, read_state(path), name=self.name, path=path, ignored=self.kind.ignored)
