"""Cells of pictures and of their transformed copies, from a frozen stem, computed once and kept.

A copy is the picture turned, mirrored, rotated and scaled a little, with other grey values. For each cell of
the picture it is known which cell of the copy shows the same place: the positive pairs of HMAR's stage 2, for
which nobody has to draw a box.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medlike.models.experts import GRID, to_grid
from medlike.models.hmar import RegionalNetwork
from medlike.training.augmentation import Augmentation, augment
from medlike.training.maps import runner, stem_digest, to_pixels, view_generator, write_view
from medlike.training.pictures import Pictures
from medlike.types import I16, U8, Mask, Progress

CELLS = GRID * GRID
BATCH = 64
# A cell is content if its grey levels have at least this standard deviation; padding and air have less.
SPREAD = 4.0
PRINT = 8
PHOTOMETRY = Augmentation(
    scale=(1.0, 1.0),
    horizontal=0.0,
    vertical=0.0,
    gamma=0.5,
    contrast=0.3,
    brightness=0.15,
    bias_field=0.25,
    blur=0.25,
    noise=0.04,
)


@dataclass(frozen=True)
class Copies:
    """How copies differ: a quarter turn and mirroring at random, and up to `rotation` degrees more either way.

    scale: range of the size of what is shown, drawn evenly in its logarithm. photometry: of augmentation; its
    geometry is left out.
    """

    rotation: float = 10.0
    scale: tuple[float, float] = (0.75, 1.35)
    photometry: Augmentation = PHOTOMETRY


@dataclass(frozen=True)
class CellViews:
    """Cells of N pictures. cells: a list over views of float16 [N,196,C]; view 0 is the picture as it is.

    partner: a list over the copies of int16 [N,196], the cell of the copy that shows what a cell of the picture
    shows, -1 where that left it. content: bool [N,196], cells of the picture that hold more than air. prints:
    uint8 [N,196,64], the pixels of each cell as 8x8. digest: of the pictures and of all that made views of them.
    """

    cells: list[npt.NDArray[np.float16]]
    partner: list[I16]
    content: Mask
    prints: U8
    digest: str = ""

    def __len__(self) -> int:
        return len(self.content)

    @property
    def copies(self) -> int:
        """Number of transformed copies of each picture."""
        return len(self.partner)


class _Gathered(nn.Module):
    """The stem, with the maps of a cell expert side by side on its grid: {"cells": [N,196,C]}."""

    def __init__(self, network: RegionalNetwork) -> None:
        super().__init__()
        self.stem, self.places = network.stem, network.cells.places

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.stem(images)
        joined = torch.cat([to_grid(maps[place].float()) for place in self.places], dim=1)
        return {"cells": joined.flatten(2).transpose(1, 2)}


def cell_views(
    network: RegionalNetwork,
    pictures: Pictures,
    cache: str | Path,
    copies: int,
    settings: Copies = Copies(),
    seed: int = 0,
    say: Progress[str] = lambda line: None,
) -> CellViews:
    """Return the cells of every picture and of `copies` copies of it; they are kept under `cache`.

    network: a regional network in evaluation mode, of which only the stem runs. A view that is there is read, so
    an interrupted run goes on with the next one.
    """
    key = hashlib.sha256(
        f"{pictures.digest} {stem_digest(network.stem)} {network.cells.places} "
        f"{sorted(asdict(settings).items())} {seed}".encode()
    ).hexdigest()[:16]
    run = None
    cells, partner = [], []
    for view in range(copies + 1):
        folder = Path(cache) / f"cells-{key}-{view}"
        if not folder.is_dir():
            run = run or runner(_Gathered(network), ("cells",), (copies + 1) * len(pictures))
            drawn: list[I16] = []
            copied = partial(_copied, settings=settings, generator=view_generator(seed, view), partner=drawn)
            shown, beside = (copied, {"partner": drawn}) if view else (None, None)
            write_view(run, ("cells",), pictures, folder, shown, f"cells, view {view}", say, beside)
        cells.append(np.load(folder / "cells.npy", mmap_mode="r"))
        if view:
            partner.append(np.load(folder / "partner.npy"))
    return CellViews(cells, partner, content_cells(pictures.pixels), cell_prints(pictures.pixels), key)


def content_cells(pixels: U8) -> Mask:
    """Return which cells hold more than air or padding: bool [N,196]; pixels uint8 [N,224,224]."""
    side = pixels.shape[1] // GRID
    mask = np.empty((len(pixels), CELLS), bool)
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH].astype(np.float32)
        blocks = part.reshape(len(part), GRID, side, GRID, side)
        mask[start : start + BATCH] = blocks.std(axis=(2, 4)).reshape(-1, CELLS) > SPREAD
    return mask


def cell_prints(pixels: U8) -> U8:
    """Return the pixels of each cell as 8x8: uint8 [N,196,64]; pixels uint8 [N,224,224]."""
    step = pixels.shape[1] // GRID // PRINT
    prints = np.empty((len(pixels), CELLS, PRINT * PRINT), np.uint8)
    for start in range(0, len(pixels), BATCH):
        part = pixels[start : start + BATCH].astype(np.float32)
        small = part.reshape(len(part), GRID * PRINT, step, GRID * PRINT, step).mean(axis=(2, 4))
        cells = small.reshape(len(part), GRID, PRINT, GRID, PRINT).transpose(0, 1, 3, 2, 4)
        prints[start : start + BATCH] = cells.reshape(len(part), CELLS, PRINT * PRINT)
    return prints


def drawn_maps(count: int, settings: Copies, generator: torch.Generator) -> Tensor:
    """Draw affine maps from places in a copy to places in its picture: float [count,2,2], both from -1 to 1."""
    turn = torch.randint(0, 4, (count,), generator=generator) * (math.pi / 2)
    mirror = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    angle = turn + (2 * torch.rand(count, generator=generator) - 1) * math.radians(settings.rotation)
    low, high = (math.log(edge) for edge in settings.scale)
    shrink = torch.exp(-(low + (high - low) * torch.rand(count, generator=generator)))
    cos, sin = shrink * torch.cos(angle), shrink * torch.sin(angle)
    return torch.stack([torch.stack([mirror * cos, -mirror * sin], 1), torch.stack([sin, cos], 1)], 1)


def transformed(images: Tensor, maps: Tensor) -> Tensor:
    """Return pictures float [N,1,H,W] as the maps [N,2,2] show them; black where the map leaves the picture."""
    theta = torch.cat([maps, torch.zeros(len(maps), 2, 1)], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def partners(maps: Tensor) -> I16:
    """Return the cell of the copy that shows the same place as each cell of its picture: int16 [N,196], -1 for none."""
    centres = (torch.arange(GRID) + 0.5) * (2 / GRID) - 1
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    places = torch.stack([columns.flatten(), rows.flatten()], 1)
    there = torch.einsum("nij,cj->nci", torch.linalg.inv(maps), places)
    cells = torch.floor((there + 1) * (GRID / 2) + 1e-4).long()
    inside = ((cells >= 0) & (cells < GRID)).all(dim=2)
    numbers = torch.where(inside, cells[..., 1] * GRID + cells[..., 0], -1)
    return numbers.numpy().astype(np.int16)


def _copied(
    pixels: U8,
    settings: Copies,
    generator: torch.Generator,
    partner: list[I16],
) -> U8:
    """Return copies of pictures uint8 [n,224,224], and append to `partner` which cell became which."""
    maps = drawn_maps(len(pixels), settings, generator)
    partner.append(partners(maps))
    shown = transformed(torch.from_numpy(pixels).float().unsqueeze(1) / 255, maps)
    return to_pixels(augment(shown, settings.photometry, generator))
