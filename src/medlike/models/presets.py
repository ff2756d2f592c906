"""Settings of the networks, and the presets by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from medlike.errors import TrainingError
from medlike.models.changes import with_changes


@dataclass(frozen=True)
class NetworkSettings:
    """Everything that shapes a whole-image network, and with local_bits the regional expert.

    Attributes:
        stem: Name of the stem; see stems.
        stem_stride: "v1" or "v1.5", ResNet only; see resnet.
        normalisation: ResNet only; see resnet.
        shallow_stride: Stride of the shallower map that attention and fusion take.
        deep_stride: Stride of the deeper map, which the pixel transformer takes as well.
        window_heads: Heads of ConvMSA.
        window_width: Channels of each of them.
        query: Depth that DaRF's queries come from.
        fusion_heads: Heads of DaRF.
        fusion_width: Channels of each of them.
        fusion_outputs: Width of DaRF's output; 0 leaves it out, with its window attention.
        pixel_width: Width of a token of PiT.
        pixel_depth: Layers of PiT.
        pixel_heads: Heads of PiT.
        pixel_hidden: Hidden width of PiT.
        pixel_dropout: Dropout of PiT.
        pixel_kept: Number of PiT's last layers that feed the global and the local branch.
        branch_width: Width of each branch.
        hash_kind: "kan" (published), "mlp" or "linear".
        hash_hidden: Width of the hash head's hidden layer.
        grid_input: Bring KAN inputs into the grid (ours) or not (released).
        linear: Width of the linear part of the blended feature, from the pooled depths, and with it a linear path
            beside the hash head; 0 leaves both out.
        discriminant: Directions of that part along which labels differ most, stored beside it, of unit length too; 0
            for none.
        depth_members: Small networks of the learned branch on the linear part.
        depth_hidden: Hidden width of each.
        depth_outputs: Outputs of each; 0 leaves the branch out.
        depth_dropout: Dropout of each.
        share: Length of the learned part of the blended feature beside the linear one of unit length.
        typical_centres: Centres for typicality, which shortens the learned part of untypical images and gives their
            codes a map of their own; 0 treats all images alike.
        decoder: Widths of the decoder's blocks.
        tap_heads: Put label-tree classifiers on the shallow and deep taps.
        modality_aware: FiLM by the modality that these predict, in every expert (needs tap_heads and a level
            `modality`).
        local_bits: L, bits of a cell's code, 64 or 128; 0 builds the whole-image network alone.
        cell_strides: Strides of the maps that a cell's code is made of, brought to 14x14.
        cell_hidden: Hidden width of a cell's tower.
        cell_width: Output width of a cell's tower.
        cell_linear: Add a linear path from the standardised maps to the cell's code.
        weight_width: Width of the cell weight's query and key.
    """

    stem: str = "resnet50"
    stem_stride: Literal["v1", "v1.5"] = "v1"
    normalisation: str = "mean"
    shallow_stride: int = 8
    deep_stride: int = 32
    window_heads: int = 8
    window_width: int = 64
    query: Literal["shallow", "deep"] = "shallow"
    fusion_heads: int = 12
    fusion_width: int = 128
    fusion_outputs: int = 512
    pixel_width: int = 768
    pixel_depth: int = 12
    pixel_heads: int = 12
    pixel_hidden: int = 3072
    pixel_dropout: float = 0.1
    pixel_kept: int = 6
    branch_width: int = 1536
    hash_kind: Literal["kan", "mlp", "linear"] = "kan"
    hash_hidden: int = 512
    grid_input: bool = True
    linear: int = 0
    discriminant: int = 0
    depth_members: int = 1
    depth_hidden: int = 0
    depth_outputs: int = 0
    depth_dropout: float = 0.0
    share: float = 1.0
    typical_centres: int = 0
    decoder: tuple[tuple[int, int], ...] = ((512, 512), (256, 256), (128, 64))
    tap_heads: bool = False
    modality_aware: bool = False
    local_bits: int = 0
    cell_strides: tuple[int, ...] = (16,)
    cell_hidden: int = 512
    cell_width: int = 256
    cell_linear: bool = False
    weight_width: int = 64


COMPACT = NetworkSettings(
    stem="efficientnet_lite0_blocks",
    shallow_stride=16,
    window_heads=2,
    window_width=16,
    fusion_heads=4,
    fusion_width=32,
    fusion_outputs=96,
    pixel_width=96,
    pixel_depth=2,
    pixel_heads=3,
    pixel_hidden=128,
    pixel_kept=2,
    branch_width=48,
    hash_hidden=24,
    linear=128,
    discriminant=48,
    depth_members=2,
    depth_hidden=232,
    depth_outputs=48,
    depth_dropout=0.3,
    typical_centres=32,
    decoder=((96, 96), (64, 64), (32, 16)),
)

PRESETS: dict[str, NetworkSettings] = {
    # As published, but for the KAN input, which is brought into the spline grid.
    "acir": NetworkSettings(),
    # The released code to the letter: raw KAN input.
    "acir-released": NetworkSettings(grid_input=False),
    # The default: the same parts, smaller, and a linear branch that keeps what the ImageNet start knows.
    "compact": COMPACT,
    # The same on the other small stem.
    "compact-mobilenet": replace(COMPACT, stem="mobilenet_v2_blocks"),
    # Global and regional experts on the published stem, and on the small one.
    "hmar": NetworkSettings(tap_heads=True, modality_aware=True, local_bits=64),
    "hmar-compact": replace(
        COMPACT,
        tap_heads=True,
        modality_aware=True,
        local_bits=64,
        cell_strides=(16,),
        cell_hidden=96,
        cell_width=64,
        cell_linear=True,
    ),
}


def preset(name: str, **changes: object) -> NetworkSettings:
    """Return the settings of a preset, with changes by name. TrainingError lists the known names."""
    if name not in PRESETS:
        raise TrainingError(f"preset {name!r} is unknown; known: {', '.join(sorted(PRESETS))}")
    return with_changes(PRESETS[name], changes)
