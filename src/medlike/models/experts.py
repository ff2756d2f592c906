"""The regional expert of HMAR: a code for every cell, how much each cell matters, and the gate between experts.

After Yuan 2026 (arXiv 2603.16679); geometry, weights and gate are our definition. Cells are the 14x14
positions at stride 16 of a letterboxed image; which of them are padding is the caller's knowledge.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlike.errors import TrainingError
from medlike.models.film import ModalityAffine
from medlike.models.kan import KANLayer

GRID = 14
LOCAL_BITS = (64, 128)


def to_grid(x: Tensor, side: int = GRID) -> Tensor:
    """Bring maps to the grid of cells: [N, C, h, w] -> [N, C, side, side].

    Finer maps are averaged, coarser ones interpolated. Both commute with quarter turns and reflections.
    """
    h, w = x.shape[-2:]
    if (h, w) == (side, side):
        return x
    if h % side == 0 and w % side == 0:
        return F.avg_pool2d(x, (h // side, w // side))
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


class CellExpert(nn.Module):
    """Expert1: compute a code for every cell from the stem's maps.

    The maps at `places` are brought to 14x14, standardised (buffers mean, std [C]; modality_mean [M, C], what
    standardised cells of a modality are on average, is subtracted) and go through a tower of 1x1 convolutions,
    conditioned on modality, to z [N, 14, 14, D]; a KAN layer makes u [N, 14, 14, L] of each cell alone. With
    `linear`, u is that plus a linear map of the standardised cell.
    """

    mean: Tensor
    std: Tensor
    modality_mean: Tensor

    def __init__(
        self,
        channels: Sequence[int],
        places: Sequence[int],
        hidden: int,
        width: int,
        bits: int,
        modalities: int = 0,
        linear: bool = False,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if bits not in LOCAL_BITS:
            raise TrainingError(f"{bits} local bits are not supported; choose one of {LOCAL_BITS}")
        self.places, self.bits = tuple(places), bits
        inputs = sum(channels[place] for place in self.places)
        self.inputs = inputs
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.register_buffer("modality_mean", torch.zeros(modalities, inputs))
        self.enter = nn.Conv2d(inputs, hidden, 1)
        self.film = ModalityAffine(modalities, hidden) if modalities else None
        self.leave = nn.Conv2d(hidden, width, 1)
        self.hash = KANLayer(width, bits, normalise)
        self.direct = nn.Linear(inputs, bits) if linear else None

    def gather(self, maps: Sequence[Tensor]) -> Tensor:
        """Return what a cell's code is made of, not standardised: float32 [N, 14, 14, C]."""
        joined = torch.cat([to_grid(maps[place].float()) for place in self.places], dim=1)
        return joined.permute(0, 2, 3, 1)

    def forward(self, maps: Sequence[Tensor], modality: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return u, float32 [N, 14, 14, L], and z, [N, 14, 14, D], from maps of the stem and probabilities [N, M]."""
        return self.encode(self.gather(maps), modality)

    def encode(self, cells: Tensor, modality: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return u and z from gathered cells [N, h, w, C], as for training from a cache."""
        standard = self.standardise(cells, modality)
        y = self.enter(standard.permute(0, 3, 1, 2))
        if self.film is not None and modality is not None:
            y = self.film(y, modality)
        z = self.leave(F.gelu(y)).permute(0, 2, 3, 1)
        u = self.hash(z).float()
        if self.direct is not None:
            u = u + self.direct(standard).float()
        return u, z

    def standardise(self, cells: Tensor, modality: Tensor | None = None) -> Tensor:
        """Return gathered cells [N, h, w, C] standardised, less the average of their image's modality [N, M]."""
        standard = (cells - self.mean) / self.std
        if self.film is None:
            return standard
        if modality is None:
            raise TrainingError("this expert is conditioned on modality; give its probabilities")
        return standard - (modality.detach() @ self.modality_mean)[:, None, None]

    def initialise_from_projection(
        self,
        mean: Tensor,
        std: Tensor,
        weight: Tensor,
        offset: Tensor | None = None,
        modality_mean: Tensor | None = None,
    ) -> None:
        """Make u = standardised cell @ weight + offset for every cell, the KAN layer silenced.

        Args:
            mean: float [C] over content cells.
            std: float [C], above zero.
            weight: float [C, L].
            offset: float [L]; zero if None.
            modality_mean: float [M, C]; zero if None.

        Raises:
            TrainingError: There is no linear path, shapes differ, or numbers are not finite.
        """
        if self.direct is None:
            raise TrainingError("this expert has no linear path to initialise; build it with cell_linear=True")
        expected = (self.inputs, self.bits)
        if tuple(weight.shape) != expected or mean.shape != (self.inputs,) or std.shape != (self.inputs,):
            raise TrainingError(
                f"mean {tuple(mean.shape)}, std {tuple(std.shape)} and weight {tuple(weight.shape)} do not fit; "
                f"expected [{self.inputs}], [{self.inputs}] and {expected}"
            )
        if not bool((std > 0).all()) or not bool(torch.isfinite(weight).all()):
            raise TrainingError("std must be above zero and the projection finite; fit them again")
        with torch.no_grad():
            self.mean.copy_(mean)
            self.std.copy_(std)
            self.direct.weight.copy_(weight.T)
            self.direct.bias.copy_(torch.tensor(0.0) if offset is None else offset)
            self.modality_mean.copy_(torch.tensor(0.0) if modality_mean is None else modality_mean)
        self.hash.silence()


class CellWeight(nn.Module):
    """Weigh each cell as the global expert attends: the query is CLS, the keys are cells.

    weight = softmax over cells of q(cls) . k(cell) / sqrt(d), times the number of valid cells, so its mean is 1. It
    learns through `attended`: a classifier of the cells' weighted mean, which needs no boxes.
    """

    def __init__(self, cls_width: int, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Linear(cls_width, width)
        self.key = nn.Conv2d(channels, width, 1)
        self.attended = nn.Linear(channels, classes)
        self.scale = width**-0.5

    def forward(self, cls: Tensor, cells: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weight of each cell and the logits of their weighted mean.

        Invalid cells weigh zero; an image without a valid cell weighs zero everywhere.

        Args:
            cls: float [N, W].
            cells: float [N, C, 14, 14].
            valid: bool [N, 14, 14]; all cells if None.

        Returns:
            weight float32 [N, 14, 14], logits [N, classes].
        """
        keys = self.key(cells)
        scores = (keys * self.query(cls)[:, :, None, None]).sum(dim=1).float() * self.scale
        flat = scores.flatten(1)
        if valid is None:
            share = flat.softmax(dim=1)
            weight = share * flat.shape[1]
        else:
            inside = valid.flatten(1)
            share = flat.masked_fill(~inside, -1e4).softmax(dim=1) * inside
            weight = share * inside.sum(dim=1, keepdim=True)
        attended = (cells.float().flatten(2) * share[:, None]).sum(dim=2)
        return weight.reshape(scores.shape), self.attended(attended)


class Gate(nn.Module):
    """Compute the shares of global and local distance: softmax(W [standardised pooled depths; modality; has_box]).

    D = g0 D_global + g1 D_local, both distances as shares of differing bits. Trained last; equal shares
    until then.
    """

    def __init__(self, pooled: int, modalities: int) -> None:
        super().__init__()
        self.modalities = modalities
        self.linear = nn.Linear(pooled + modalities + 1, 2)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, standard: Tensor, modality: Tensor | None, has_box: Tensor) -> Tensor:
        """Return the shares, float32 [N, 2]; standard: [N, P], modality: [N, M] or None, has_box: [N] of 0 and 1."""
        seen = [standard, has_box.to(standard.dtype)[:, None]]
        if self.modalities:
            if modality is None:
                raise TrainingError("this gate is conditioned on modality; give its probabilities")
            seen.insert(1, modality.detach().to(standard.dtype))
        return self.linear(torch.cat(seen, dim=1)).float().softmax(dim=1)
