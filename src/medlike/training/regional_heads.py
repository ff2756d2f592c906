"""What stage 1 of HMAR adds to the whole-image network: heads on two depths, and how much each cell matters.

Both learn on a frozen stem: the heads from pooled means alone, the cell weights from the maps at stride 16 through
the classifier of their weighted mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medlike.errors import TrainingError
from medlike.models.experts import GRID
from medlike.models.hmar import RegionalNetwork
from medlike.training.cells import CellViews
from medlike.training.cells_training import CellRecipe
from medlike.training.depths import PooledBatch, pooled_batches
from medlike.training.feed import FrozenFeed
from medlike.training.losses.hierarchy import hierarchy_entropy
from medlike.training.maps import Maps
from medlike.training.material import Material, sampling_weights
from medlike.training.runner import Stage, run_stage
from medlike.types import F32, I64, Progress

BATCH = 256
WEIGHT_BATCH = 64
TAP_RATE = 40.0


def fit_taps(
    network: RegionalNetwork, recipe: CellRecipe, part: Material, maps: Maps, seed: int, say: Progress[str]
) -> None:
    """Train the label-tree heads on the shallow and deep taps from pooled means, in place; then freeze them."""
    image = network.image
    if image.shallow_heads is None or image.deep_heads is None:
        return
    torch.manual_seed(seed)
    device = image.pooling.mean.device
    heads = [*image.shallow_heads.parameters(), *image.deep_heads.parameters()]
    for parameter in heads:
        parameter.requires_grad_(True)
    # Standardised depths are small (1 over the root of their widths), so the weights must become large.
    optimiser = torch.optim.Adam(heads, lr=TAP_RATE * recipe.head_rate)
    drawn = pooled_batches(part, maps, BATCH, "tempered", (seed, 41), device)
    columns = image.pooling.slices()
    taps = (
        ("shallow", image.shallow_heads, columns[image.shallow_index]),
        ("deep", image.deep_heads, columns[image.deep_index]),
    )

    def judged(batch: PooledBatch) -> tuple[Tensor, dict[str, float]]:
        known, pooled = batch
        standard = image.pooling.standardise(pooled)
        entropies = {name: hierarchy_entropy(head(standard[:, of]), known, 0.1) for name, head, of in taps}
        return torch.stack(list(entropies.values())).sum(), {n: float(e.detach()) for n, e in entropies.items()}

    def rate(epoch: int, step: int) -> float:
        return TAP_RATE * recipe.head_rate * (1 - step / recipe.head_steps)

    run = run_stage(Stage("taps", image, optimiser, lambda epoch: drawn, judged, recipe.head_steps, rate=rate))
    for parameter in heads:
        parameter.requires_grad_(False)
    say("heads on the taps: " + ", ".join(f"{name} {value:.3f}" for name, value in run.parts.items()))


def fit_cell_weights(
    network: RegionalNetwork,
    recipe: CellRecipe,
    part: Material,
    feed: FrozenFeed,
    views: CellViews,
    seed: int,
    say: Progress[str],
) -> None:
    """Train how much each cell matters, in place: the global expert's CLS asks, cells answer, labels decide."""
    torch.manual_seed(seed)
    random = np.random.default_rng((seed, 43))
    network.eval()
    network.cell_weight.requires_grad_(True)
    optimiser = torch.optim.AdamW(network.cell_weight.parameters(), lr=recipe.head_rate, weight_decay=0.05)
    weights = sampling_weights(part.dataset, "tempered")
    level = list(part.labels)[-1]
    columns = stride_columns(network)

    def batches(epoch: int) -> Iterator[I64]:
        while True:
            yield random.choice(len(part), WEIGHT_BATCH, p=weights)

    def judged(rows: I64) -> tuple[Tensor, dict[str, float]]:
        deep = feed.maps.batch(np.zeros(len(rows), np.int64), rows, feed.device)[1]
        with torch.no_grad():
            cls = network.image.pixels(deep)[-1][:, 0]
        cells = np.stack([views.cells[0][row][:, columns] for row in rows])
        given = torch.from_numpy(cells).to(feed.device).float().transpose(1, 2).unflatten(2, (GRID, GRID))
        _, logits = network.cell_weight(cls, given)
        known = {level: torch.from_numpy(part.labels[level][rows]).to(feed.device)}
        entropy = hierarchy_entropy({level: logits}, known, 0.1)
        return entropy, {"loss": float(entropy.detach())}

    steps = max(1, recipe.head_steps // 4)
    run = run_stage(Stage("cell weights", network.cell_weight, optimiser, batches, judged, steps))
    network.cell_weight.requires_grad_(False)
    say(f"cell weights: {run.parts['loss']:.3f}")


def stride_columns(network: RegionalNetwork) -> slice:
    """Return the columns of a cell that are the map at stride 16, for the cell weights. TrainingError without it."""
    places, channels = network.cells.places, network.stem.channels
    if network.weight_index not in places:
        raise TrainingError("cell weights read the map at stride 16; have 16 among --set cell_strides")
    at = places.index(network.weight_index)
    start = sum(channels[place] for place in places[:at])
    return slice(start, start + channels[network.weight_index])


@torch.no_grad()
def predicted_modalities(network: RegionalNetwork, pooled: npt.NDArray[np.float16]) -> F32 | None:
    """Return the modality that the taps predict, float32 [N,M]; None without heads on them. pooled: [N,P]."""
    image = network.image
    if image.shallow_heads is None or image.deep_heads is None or "modality" not in image.classes:
        return None
    columns = image.pooling.slices()
    parts = []
    for start in range(0, len(pooled), 1024):
        rows = torch.from_numpy(np.asarray(pooled[start : start + 1024], np.float32)).to(image.pooling.mean.device)
        standard = image.pooling.standardise(rows)
        logits = image.shallow_heads(standard[:, columns[image.shallow_index]])["modality"]
        logits = logits + image.deep_heads(standard[:, columns[image.deep_index]])["modality"]
        parts.append((logits / 2).softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)
