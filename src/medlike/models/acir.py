"""The whole-image network: stem, window attention at two depths, pixel transformer, fusion, KAN hash head.

Nan et al. 2025, "ACIR" (arXiv 2503.09370). The preset `compact` is the same network with smaller parts and
a linear branch from the pooled depths (ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.attention import WINDOW, ConvMSA, PixelTransformer
from medlike.models.decoder import Decoder
from medlike.models.film import ModalityAffine
from medlike.models.fusion import AdaptivePool, DepthFusion
from medlike.models.heads import HashHead, HierarchyHeads, check_bits
from medlike.models.pooling import Centring, DepthPooling
from medlike.models.presets import NetworkSettings
from medlike.models.stems import Stem
from medlike.models.typicality import Typicality

# Classifiers see unit features times this, so that their logits can be sure.
UNIT_SCALE = 8.0

#: Tensors by name; logits are dictionaries by level. ImageNetwork and RegionalNetwork say which there are.
Outputs: TypeAlias = dict[str, Any]


class DepthFusionBranch(nn.Module):
    """Attend in windows and pool at two depths, then fuse them: shallow and deep maps -> [N, fusion_outputs]."""

    def __init__(self, shallow: int, deep: int, settings: NetworkSettings) -> None:
        super().__init__()
        self.shallow_attention = ConvMSA(shallow, settings.window_heads, settings.window_width)
        self.deep_attention = ConvMSA(deep, settings.window_heads, settings.window_width)
        self.shallow_pool = AdaptivePool(shallow)
        self.deep_pool = AdaptivePool(deep)
        self.cross = DepthFusion(
            shallow, deep, settings.fusion_outputs, settings.fusion_heads, settings.fusion_width, settings.query
        )

    def forward(self, shallow: Tensor, deep: Tensor) -> Tensor:
        """Return the fused depths of maps [N, C, H, W] each: float [N, fusion_outputs]."""
        return self.cross(self.shallow_pool(self.shallow_attention(shallow)), self.deep_pool(self.deep_attention(deep)))


class DepthBranch(nn.Module):
    """Run small networks side by side on the linear part: [N, linear] -> [N, members * outputs].

    Each network's share of the output has length UNIT_SCALE.

    Members are trained apart, so each errs in its own way; together they serve unknown sources better than one
    network of the same size.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        # The linear part has a length of about 1; hidden layers want entries of about 1. No layer norm: an image's
        # length is an outlier score.
        self.scale = settings.linear**0.5
        self.members = nn.ModuleList(_member(settings) for _ in range(settings.depth_members))

    def forward(self, projected: Tensor) -> Tensor:
        """Return the members' outputs side by side, float [N, members * outputs]."""
        scaled = self.scale * projected
        return torch.cat([UNIT_SCALE * F.normalize(member(scaled), dim=1) for member in self.members], dim=1)


def _member(settings: NetworkSettings) -> nn.Sequential:
    """Return a network of two hidden layers: [N, linear] -> [N, depth_outputs]."""
    widths = (settings.linear, settings.depth_hidden, settings.depth_hidden)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.SiLU(), nn.Dropout(settings.depth_dropout)]
    return nn.Sequential(*layers, nn.Linear(settings.depth_hidden, settings.depth_outputs))


class ImageNetwork(nn.Module):
    """Encode whole images: float [N, 3, 224, 224] in [0, 1] -> a dictionary of what is known of each.

    u: float32 [N, K], real code; the bit is u > 0.
    feature: float32 [N, D], blended feature; content similarity is the Pearson correlation of rows.
    code_parts: float32 [N, code_width], what the linear path of the hash head reads: the feature and, with
        typicality, its linear part once more, times the typicality, and the typicality itself. So the path can be one
        map for typical images and another for untypical ones, and a mixture for those in between.
    pooled: float32 [N, P], means of every depth, not standardised.
    shallow, deep: float [N, C, H, W], raw maps of the stem.
    hidden: float [N, H], hidden units of the hash head.
    logits: level -> float [N, classes], auxiliary classifier on the hidden units, or on the learned part of the
        feature where there is a linear one.
    cls: float [N, W], CLS token of the pixel transformer's last layer.
    modality: float32 [N, M], probabilities, where the label tree has that level.
    tap_logits: "shallow" | "deep" -> level -> float [N, classes], where the network has tap heads.
    reconstruction: float [N, 3, 224, 224], only on request and with a decoder.
    """

    share: Tensor

    def __init__(self, settings: NetworkSettings, bits: int, classes: Mapping[str, int], decoder: bool = False) -> None:
        super().__init__()
        check_bits(bits)
        self.settings, self.bits, self.classes = settings, bits, dict(classes)
        self.stem = Stem(settings.stem, settings.stem_stride, settings.normalisation)
        self.shallow_index = self.stem.at(settings.shallow_stride)
        self.deep_index = self.stem.at(settings.deep_stride)
        shallow, deep = self.stem.channels[self.shallow_index], self.stem.channels[self.deep_index]
        self.pooling = DepthPooling(self.stem.channels)
        self.fusion = DepthFusionBranch(shallow, deep, settings) if settings.fusion_outputs else None
        self.pixels = PixelTransformer(
            deep,
            settings.pixel_width,
            settings.pixel_depth,
            settings.pixel_heads,
            settings.pixel_hidden,
            settings.pixel_dropout,
        )
        token_width = settings.pixel_kept * settings.pixel_width
        self.global_branch = nn.Linear(token_width, settings.branch_width)
        self.local_branch = nn.Conv2d(token_width, settings.branch_width, 1)
        self.linear_branch = nn.Linear(self.pooled_width, settings.linear, bias=False) if settings.linear else None
        if self.linear_branch is not None:
            nn.init.orthogonal_(self.linear_branch.weight)
        # Linear too, so it says of unknown images more than what was learned in layers does.
        self.discriminant = (
            nn.Linear(settings.linear, settings.discriminant) if settings.linear and settings.discriminant else None
        )
        self.depth_branch = DepthBranch(settings) if settings.linear and settings.depth_outputs else None
        # Centred, so that cosines of the learned part spread over [-1, 1] as those of the linear part do.
        self.centring = Centring(self.learned_width) if settings.linear else None
        # What was learned says little of an image unlike all that it was learned from.
        self.typicality = (
            Typicality(settings.linear, settings.typical_centres)
            if settings.linear and settings.typical_centres
            else None
        )
        if self.depth_branch is not None:
            # The learned part starts as what the depths alone say; attention and fusion add to it.
            outlets = nn.ModuleList([self.global_branch, self.local_branch])
            if self.fusion is not None:
                outlets.append(self.fusion.cross.output)
            for parameter in outlets.parameters():
                nn.init.zeros_(parameter)
        self.register_buffer("share", torch.tensor(float(settings.share)))
        self.hash_head = HashHead(
            self.feature_width,
            settings.hash_hidden,
            bits,
            settings.grid_input,
            direct=self.code_width,
            kind=settings.hash_kind,
        )
        self.classifier = HierarchyHeads(self.learned_width if settings.linear else self.hash_head.hidden, classes)
        if settings.modality_aware and not (settings.tap_heads and "modality" in classes):
            raise TrainingError("modality_aware needs tap_heads and a level `modality` among the classes")
        self.shallow_heads = HierarchyHeads(shallow, classes) if settings.tap_heads else None
        self.deep_heads = HierarchyHeads(deep, classes) if settings.tap_heads else None
        self.film = ModalityAffine(classes["modality"], self.learned_width) if settings.modality_aware else None
        self.decoder = Decoder(deep, settings.decoder) if decoder else None

    @property
    def feature_width(self) -> int:
        """Return D, the width of the blended feature."""
        return self.learned_width + self.linear_width

    @property
    def content_blocks(self) -> tuple[int, ...]:
        """Return the widths of the parts of the blended feature that there are: learned, linear, discriminant."""
        parts = (self.learned_width, self.settings.linear, self.linear_width - self.settings.linear)
        return tuple(width for width in parts if width)

    @property
    def linear_width(self) -> int:
        """Return the width of the linear part of the blended feature, with the discriminant directions."""
        return self.settings.linear + (self.settings.discriminant if self.discriminant is not None else 0)

    @property
    def code_width(self) -> int:
        """Return the width of `code_parts`, which the linear path of the hash head reads; 0 without such a path."""
        if not self.settings.linear:
            return 0
        return self.feature_width + (self.linear_width + 1 if self.typicality is not None else 0)

    @property
    def learned_width(self) -> int:
        """Return the width of the learned part, which stands first in the blended feature."""
        depths = self.settings.depth_members * self.settings.depth_outputs if self.settings.linear else 0
        return 2 * self.settings.branch_width + self.settings.fusion_outputs + depths

    @property
    def pooled_width(self) -> int:
        """Return P, the width of the pooled depths; their single widths are `pooling.channels`."""
        return sum(self.stem.channels)

    def forward(self, images: Tensor, reconstruct: bool = False) -> Outputs:
        """Return the outputs of images, float [N, 3, 224, 224] in [0, 1]; see the class."""
        maps = self.stem(images)
        outputs = self.encode(maps[self.shallow_index], maps[self.deep_index], self.pooling(maps))
        if reconstruct:
            outputs["reconstruction"] = self.reconstruct(outputs["deep"])
        return outputs

    def encode(self, shallow: Tensor | None, deep: Tensor | None, pooled: Tensor) -> Outputs:
        """Return the outputs from the stem's two maps and the pooled means of all, as for training from a cache.

        Without maps, the feature is what the depths alone say (networks with a depth branch).

        Args:
            shallow: Raw map, float [N, C, H, W], or None.
            deep: Raw map, float [N, C, h, w], or None.
            pooled: Means of every depth, float32 [N, P].

        Raises:
            TrainingError: There are no maps and no depth branch.
        """
        standard = self.pooling.standardise(pooled)
        outputs: Outputs = {"pooled": pooled, "shallow": shallow, "deep": deep}
        if self.shallow_heads is not None and self.deep_heads is not None:
            columns = self.pooling.slices()
            taps = {
                "shallow": self.shallow_heads(standard[:, columns[self.shallow_index]]),
                "deep": self.deep_heads(standard[:, columns[self.deep_index]]),
            }
            outputs["tap_logits"] = taps
            if "modality" in self.classes:
                both = taps["shallow"]["modality"].float() + taps["deep"]["modality"].float()
                outputs["modality"] = (both / 2).softmax(dim=1)
        projected = None if self.linear_branch is None else self.linear_branch(standard).float()
        learned, cls = self._learned(shallow, deep, projected)
        if self.film is not None and outputs.get("modality") is not None:
            learned = self.film(learned, outputs["modality"]).float()
        feature = parts = learned
        judged = None
        if projected is not None and self.centring is not None:
            # Both linear parts have unit length, the learned one `share` where an image is typical, and less elsewhere.
            unit, linear = F.normalize(self.centring(learned), dim=1), F.normalize(projected, dim=1)
            typical = None if self.typicality is None else self.typicality(linear)
            if self.discriminant is not None:
                linear = torch.cat([linear, F.normalize(self.discriminant(linear).float(), dim=1)], dim=1)
            feature = torch.cat([self.share * (unit if typical is None else typical * unit), linear], dim=1)
            parts = feature if typical is None else torch.cat([feature, typical * linear, typical], dim=1)
            judged = UNIT_SCALE * unit
        u, hidden = self.hash_head(feature, parts)
        logits = self.classifier(hidden if judged is None else judged)
        if "modality" in logits and "modality" not in outputs:
            outputs["modality"] = logits["modality"].float().softmax(dim=1)
        outputs |= {"u": u, "feature": feature, "code_parts": parts, "hidden": hidden, "logits": logits, "cls": cls}
        return outputs

    def members(self, pooled: Tensor) -> list[Outputs]:
        """Return u, feature and logits of every member of the depth branch alone.

        The feature is float32 [N, learned_width], of unit length and zero outside the member's columns; u is the same.

        Args:
            pooled: Means of every depth, float32 [N, P].

        Raises:
            TrainingError: There is no depth branch.
        """
        if self.depth_branch is None or self.linear_branch is None or self.centring is None:
            raise TrainingError("this network has no depth branch; build it with linear and depth_outputs above 0")
        projected = self.linear_branch(self.pooling.standardise(pooled)).float()
        centred = self.centring(self._learned(None, None, projected)[0])
        width, end = self.settings.depth_outputs, self.learned_width
        outputs = []
        for start in range(end - width * self.settings.depth_members, end, width):
            member = F.normalize(centred[:, start : start + width], dim=1)
            feature = F.pad(member, (start, end - start - width))
            outputs.append({"u": feature, "feature": feature, "logits": self.classifier(UNIT_SCALE * feature)})
        return outputs

    def reconstruct(self, deep: Tensor) -> Tensor:
        """Return the images decoded from the raw deep map: float [N, 3, 224, 224]. TrainingError without a decoder."""
        if self.decoder is None:
            raise TrainingError("this network has no decoder; build it with decoder=True")
        return self.decoder(deep)

    def initialise_linear(self, mean: Tensor, std: Tensor, projection: Tensor) -> None:
        """Set the linear part of the blended feature to p = ((pooled - mean) / std) @ projection.

        Args:
            mean: float [P], for example from `pooling.depth_statistics`.
            std: float [P], above zero.
            projection: float [P, linear], leading principal directions, evened out or not.

        Raises:
            TrainingError: Shapes differ, or there is no linear part.
        """
        if self.linear_branch is None:
            raise TrainingError("this network has no linear part to initialise; build it with linear > 0")
        width = self.pooled_width
        if tuple(mean.shape) != (width,) or tuple(std.shape) != (width,) or not bool((std > 0).all()):
            raise TrainingError(f"mean and std must be [{width}] with std above zero; got {tuple(mean.shape)}")
        expected = (width, self.settings.linear)
        if tuple(projection.shape) != expected:
            raise TrainingError(f"projection {tuple(projection.shape)} does not fit; expected {expected}")
        with torch.no_grad():
            self.pooling.mean.copy_(mean)
            self.pooling.std.copy_(std)
            self.linear_branch.weight.copy_(projection.T)

    def _learned(
        self, shallow: Tensor | None, deep: Tensor | None, projected: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the learned part, float32 [N, learned_width], and the CLS token of the last layer."""
        parts: list[Tensor] = []
        cls = None
        if shallow is not None and deep is not None:
            layers = self.pixels(deep)[-self.settings.pixel_kept :]
            cls = layers[-1][:, 0]
            patches = torch.cat([tokens[:, 1:] for tokens in layers], dim=2).transpose(1, 2)
            parts.append(self.global_branch(torch.cat([tokens[:, 0] for tokens in layers], dim=1)))
            parts.append(self.local_branch(patches.unflatten(2, (WINDOW, WINDOW))).mean(dim=(2, 3)))
            if self.fusion is not None:
                parts.append(self.fusion(shallow, deep))
        if self.depth_branch is not None:
            assert projected is not None
            depths = self.depth_branch(projected)
            if not parts:
                parts.append(depths.new_zeros(len(depths), self.learned_width - depths.shape[1]))
            parts.append(depths)
        if not parts:
            raise TrainingError("this network has no depth branch: it needs the stem's maps")
        return torch.cat(parts, dim=1).float(), cls
