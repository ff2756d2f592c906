"""Tuning the stem that all frozen cells share: cross-entropy on the train part, a few epochs, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from medlike.datasets import Dataset
    from medlike_research.studies.bench import Bench

_BATCH = 32
_RATE = 2e-4


class Start(Protocol):
    """What a stem is tuned on: `frozen.Frozen`."""

    @property
    def bench(self) -> Bench:
        """Return the bench of the study."""
        ...

    @property
    def train(self) -> Dataset:
        """Return the training images."""
        ...

    def key(self, *more: Any) -> str:
        """Return a name for results that depend on this start and on `more`."""
        ...


def tune_stem(frozen: Start, start: Path | None, epochs: int, name: str = "ce", self_supervised: int = 0) -> Path:
    """A stem tuned by cross-entropy on its pooled depths; returns the file with its weights.

    start: ImageNet weights, None for random ones. self_supervised: epochs before that in which two views of a
    picture attract each other and no label is seen, on all parts but gallery and query. The file is kept.
    """
    import torch
    import torch.nn.functional as F
    from safetensors.torch import save_file

    from medlike.files import drafted
    from medlike.models.pooling import DepthPooling
    from medlike.models.presets import preset
    from medlike.models.stems import Stem
    from medlike.training.material import classes_of, material

    bench = frozen.bench
    file = bench.work / "stems" / f"{frozen.key(name, str(start), epochs, self_supervised)}.safetensors"
    if file.is_file():
        return file
    torch.manual_seed(0)
    settings = preset(bench.settings.preset)
    stem = Stem(settings.stem, settings.stem_stride, settings.normalisation)
    if start is not None:
        stem.load(start)
    classes = classes_of(frozen.train)
    part = material(frozen.train, bench.split, classes, bench.work / "maps", bench.say)
    pooling = DepthPooling(stem.channels)
    width = sum(stem.channels)
    heads = torch.nn.ModuleDict({level: torch.nn.Linear(width, n) for level, n in classes.sizes.items()})
    norm = torch.nn.BatchNorm1d(width, affine=False)
    network = torch.nn.ModuleDict({"stem": stem, "heads": heads, "norm": norm}).to(bench.settings.device)
    labels = {level: torch.from_numpy(found) for level, found in part.labels.items()}

    def entropy(pooled: Any, rows: Any) -> Any:
        known = {level: of.to(pooled.device)[rows] for level, of in labels.items()}
        losses = [F.cross_entropy(heads[k](pooled), v, label_smoothing=0.1, ignore_index=-1) for k, v in known.items()]
        return torch.stack(losses).mean()

    if self_supervised:
        unlabelled = bench.part("train", "validation", "calibration")
        held = material(unlabelled, bench.split, classes, bench.work / "maps", bench.say)
        _epochs(network, pooling, held.pictures.pixels, self_supervised, _agreement, bench, "self-supervised", 2)
    _epochs(network, pooling, part.pictures.pixels, epochs, entropy, bench, "cross-entropy", 1)
    file.parent.mkdir(parents=True, exist_ok=True)
    with drafted(file, alone=True) as draft:
        save_file({k: v.detach().cpu().contiguous() for k, v in bare_state(stem).items()}, str(draft))
    return file


def bare_state(stem: Any) -> dict[str, Any]:
    """A stem's state under the names that its loader reads."""
    state: dict[str, Any] = stem.body.state_dict()
    return state


def _epochs(
    network: Any, pooling: Any, pixels: np.ndarray, epochs: int, loss: Any, bench: Any, name: str, views: int
) -> None:
    import torch

    from medlike.training.augmentation import augment, augmentation
    from medlike.training.feed import mixed_precision
    from medlike.training.runner import Stage, run_stage

    device = torch.device(bench.settings.device)
    random = np.random.default_rng(0)
    generator = torch.Generator(device).manual_seed(0)
    settings = augmentation("strong")
    steps = max(1, len(pixels) // _BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=epochs * steps, pct_start=0.15)

    def batches(epoch: int) -> Iterator[np.ndarray]:
        order = random.permutation(len(pixels))
        return (order[step * _BATCH : (step + 1) * _BATCH] for step in range(steps))

    def judged(rows: np.ndarray) -> tuple[Any, dict[str, float]]:
        grey = torch.from_numpy(pixels[rows]).to(device).float().unsqueeze(1) / 255
        seen = torch.cat([augment(grey, settings, generator) for _ in range(views)])
        images = seen.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with mixed_precision(device):
            pooled = network["norm"](pooling(network["stem"](images)).float())
        value = loss(pooled, torch.from_numpy(rows).to(device))
        return value, {"loss": float(value.detach())}

    network.train()
    stage = Stage(
        f"stem, {name}", network, optimiser, batches, judged, steps, epochs, clip=5.0, stepped=schedule.step,
        report=steps,
    )  # fmt: skip
    run_stage(stage, say=bench.say)
    network.eval()


def _agreement(pooled: Any, rows: Any) -> Any:
    """NT-Xent of two views (Chen et al. 2020), temperature 0.2."""
    import torch
    import torch.nn.functional as F

    unit = F.normalize(pooled, dim=1)
    scores = unit @ unit.T / 0.2
    scores = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -1e4)
    half = len(scores) // 2
    partner = torch.arange(len(scores), device=scores.device).roll(half)
    return F.cross_entropy(scores, partner)
