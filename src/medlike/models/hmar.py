"""HMAR: the whole-image network and the regional expert over one stem, with a gate between them.

After Yuan 2026 (arXiv 2603.16679), which publishes the plan but neither sizes nor code: a re-implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork, Outputs
from medlike.models.experts import CellExpert, CellWeight, Gate, to_grid
from medlike.models.presets import NetworkSettings
from medlike.models.stems import Stem

WEIGHT_STRIDE = 16


class RegionalNetwork(nn.Module):
    """Encode images and their cells: everything ImageNetwork returns, and the following.

    cells: float32 [N, 14, 14, L], real code of each cell; the bit is > 0.
    z: float [N, 14, 14, D], cells before hashing.
    cell_weight: float32 [N, 14, 14], mean 1 over valid cells.
    attended_logits: float [N, classes of the finest level].
    gate: float32 [N, 2], shares of global and local distance.
    """

    def __init__(self, settings: NetworkSettings, bits: int, classes: Mapping[str, int], decoder: bool = False) -> None:
        super().__init__()
        self.image = ImageNetwork(settings, bits, classes, decoder)
        self.settings, self.bits, self.classes = settings, bits, dict(classes)
        self.local_bits = settings.local_bits
        stem = self.image.stem
        modalities = classes["modality"] if settings.modality_aware else 0
        self.cells = CellExpert(
            stem.channels,
            [stem.at(stride) for stride in settings.cell_strides],
            settings.cell_hidden,
            settings.cell_width,
            settings.local_bits,
            modalities,
            settings.cell_linear,
            settings.grid_input,
        )
        self.weight_index = stem.at(WEIGHT_STRIDE)
        finest = list(classes.values())[-1]
        channels = stem.channels[self.weight_index]
        self.cell_weight = CellWeight(settings.pixel_width, channels, settings.weight_width, finest)
        self.gate = Gate(self.image.pooled_width, modalities)

    @property
    def stem(self) -> Stem:
        """Return the stem that both experts share."""
        return self.image.stem

    @property
    def content_blocks(self) -> tuple[int, ...]:
        """Return the widths of the parts of the blended feature."""
        return self.image.content_blocks

    @property
    def decoder(self) -> nn.Module | None:
        """Return the decoder of the whole-image network, if there is one."""
        return self.image.decoder

    def forward(
        self,
        images: Tensor,
        has_box: Tensor | None = None,
        valid: Tensor | None = None,
        reconstruct: bool = False,
    ) -> Outputs:
        """Return the outputs of images; see the class.

        Args:
            images: float [N, 3, 224, 224] in [0, 1].
            has_box: [N] of 0 and 1, whether the query is a box; zeros if None.
            valid: bool [N, 14, 14], cells that are image and not padding; all if None.
            reconstruct: Decode the images as well.
        """
        maps = self.image.stem(images)
        outputs = self.encode(maps, has_box, valid)
        if reconstruct:
            outputs["reconstruction"] = self.image.reconstruct(outputs["deep"])
        return outputs

    def encode(self, maps: list[Tensor], has_box: Tensor | None = None, valid: Tensor | None = None) -> Outputs:
        """Return the outputs from the stem's maps; `has_box` and `valid` as in `forward`."""
        image = self.image
        outputs = image.encode(maps[image.shallow_index], maps[image.deep_index], image.pooling(maps))
        modality = outputs.get("modality")
        outputs["cells"], outputs["z"] = self.cells(maps, modality)
        weight, logits = self.cell_weight(outputs["cls"], to_grid(maps[self.weight_index]), valid)
        outputs["cell_weight"], outputs["attended_logits"] = weight, logits
        pooled = outputs["pooled"]
        boxed = torch.zeros_like(pooled[:, 0]) if has_box is None else has_box
        outputs["gate"] = self.gate(image.pooling.standardise(pooled), modality, boxed)
        return outputs

    def reconstruct(self, deep: Tensor) -> Tensor:
        """Return the images decoded from the raw deep map, as ImageNetwork does."""
        return self.image.reconstruct(deep)

    def stage_parameters(self, stage: int) -> Iterator[nn.Parameter]:
        """Yield what a stage trains: 1 the global side and the cell weights, 2 the cells' expert, 3 the gate."""
        parts: dict[int, tuple[nn.Module, ...]] = {
            1: (self.image, self.cell_weight),
            2: (self.cells,),
            3: (self.gate,),
        }
        if stage not in parts:
            raise TrainingError(f"stage {stage} is unknown; known: {', '.join(map(str, parts))}")
        for part in parts[stage]:
            yield from part.parameters()
