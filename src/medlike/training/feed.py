"""Batches: from cached maps of a frozen stem, or from pictures through the whole network."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork
from medlike.training.augmentation import augment, augmentation
from medlike.training.maps import Maps
from medlike.training.pictures import Pictures
from medlike.training.recipe import Recipe
from medlike.types import F32, I64

T = TypeVar("T")
# Outputs of a network for a batch, by name: tensors, and dictionaries of them.
Outputs = dict[str, Any]
SERVED_BATCH = 256
PRECISIONS = ("auto", "float32", "bfloat16")


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items, each made in another thread while the last is worked on; none may be None."""
    with ThreadPoolExecutor(1, thread_name_prefix="medlike-feed") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def computes_in(device: torch.device, precision: str = "auto") -> str:
    """Return the arithmetic of a network on a device: "bfloat16" or "float32".

    Args:
        device: Where it runs.
        precision: A name of PRECISIONS. "auto" is bfloat16 on a GPU and float32 on a CPU, so that a training gives
            the same result on every CPU.

    Raises:
        TrainingError: The name is unknown.
    """
    if precision not in PRECISIONS:
        raise TrainingError(f"precision {precision!r} is unknown; known: {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """True where bfloat16 is faster than float32: on a GPU, and on a CPU with instructions for it (avx512_bf16, amx).

    With them a step of `acir` takes half the time. Without them torch converts each number, and is slower.
    """
    if device.type == "cuda":
        return True
    # Older releases of torch lack them.
    tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(test() for test in tests)


def mixed_precision(device: torch.device, precision: str = "auto") -> AbstractContextManager[object]:
    """Compute in the arithmetic that `computes_in` says; weights and losses stay in float32."""
    if computes_in(device, precision) == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def grey_batch(pictures: Pictures, rows: I64, device: torch.device) -> Tensor:
    """Return the pictures of some rows on the device: float32 [n,1,224,224] in [0,1]."""
    return torch.from_numpy(pictures.pixels[rows]).to(device).float().unsqueeze(1) / 255


@dataclass
class FrozenFeed:
    """Outputs of a network on cached maps of its frozen stem."""

    network: ImageNetwork
    maps: Maps
    recipe: Recipe
    device: torch.device
    precision: str = "auto"

    def batch(self, rows: I64, random: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw a view of each row, for `run`; with mixing, half the batches have another picture mixed in."""
        views = random.integers(0, self.maps.views, len(rows))
        parts = self.maps.batch(views, rows, self.device)
        if self.recipe.mixing and random.random() < 0.5:
            share = torch.from_numpy(random.random(len(rows)) * self.recipe.mixing).float().to(self.device)
            other = torch.from_numpy(random.permutation(len(rows))).to(self.device)
            return tuple(_mix(part, share, other) for part in parts)
        return parts

    def run(self, inputs: tuple[Tensor, ...]) -> Outputs:
        """Return the outputs of a batch: shallow and deep maps and pooled means."""
        with mixed_precision(self.device, self.precision):
            return self.network.encode(*inputs)

    def served(self, rows: I64) -> Outputs:
        """Return the outputs of pictures that are not augmented."""
        return self.run(self.maps.batch(np.zeros(len(rows), np.int64), rows, self.device))


def _mix(part: Tensor, share: Tensor, other: Tensor) -> Tensor:
    """Mix maps, nearly as if the pictures were mixed; the label stays that of the larger share."""
    weight = share.reshape(-1, *[1] * (part.ndim - 1))
    return (1 - weight) * part + weight * part[other]


@dataclass
class PictureFeed:
    """Outputs of a whole network on augmented pictures."""

    network: ImageNetwork
    pictures: Pictures
    recipe: Recipe
    device: torch.device
    precision: str = "auto"

    def batch(self, rows: I64, random: np.random.Generator) -> tuple[Tensor, ...]:
        """Return the pictures of the rows for `run`, float [n,1,224,224], augmented as the recipe says."""
        generator = torch.Generator(self.device).manual_seed(int(random.integers(2**62)))
        return (
            augment(grey_batch(self.pictures, rows, self.device), augmentation(self.recipe.augmentation), generator),
        )

    def run(self, inputs: tuple[Tensor, ...]) -> Outputs:
        """Return the outputs of a batch: grey pictures alone."""
        images = inputs[0].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.device, self.precision):
            return self.network(images)

    def served(self, rows: I64) -> Outputs:
        """Return the outputs of pictures that are not augmented."""
        return self.run((grey_batch(self.pictures, rows, self.device),))


@torch.inference_mode()
def served_outputs(feed: FrozenFeed | PictureFeed, rows: int | I64, names: tuple[str, ...]) -> dict[str, F32]:
    """Return the named outputs of some pictures, or of the first so many, not augmented: float32 [N, ...]."""
    feed.network.eval()
    rows = np.arange(rows) if isinstance(rows, int) else rows
    parts_by_name: dict[str, list[F32]] = {name: [] for name in names}
    for start in range(0, len(rows), SERVED_BATCH):
        outputs = feed.served(rows[start : start + SERVED_BATCH])
        for name in names:
            parts_by_name[name].append(outputs[name].float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in parts_by_name.items()}
