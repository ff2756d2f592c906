"""Stage 1: epochs over batches, validated, kept after each, and able to go on after a kill."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlike.codes.packing import pack
from medlike.errors import TrainingError
from medlike.files import PRIVATE, drafted, write_text
from medlike.metrics.retrieval import score_codes, score_features
from medlike.models.networks import record
from medlike.training.curves import keep_history
from medlike.training.depths import fit_depths
from medlike.training.feed import FrozenFeed, PictureFeed, ahead, served_outputs
from medlike.training.maps import stem_digest
from medlike.training.material import Material, labels_digest, sampling_weights
from medlike.training.objective import HashLoss, Judged, hash_loss, judge
from medlike.training.recipe import Recipe
from medlike.training.start import start_code

Say = Callable[[str], None]
Feed = FrozenFeed | PictureFeed
CHECKPOINT = "checkpoint.pt"
VALIDATION_GALLERY = 3000
CLIP = 5.0


@dataclass
class Trained:
    """The best state of a run: its weights, its epoch, the history of all epochs, pairs by H [2,20] or None."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, Any]]
    histogram: list[list[float]] | None


class RunningMean:
    """Exponential running mean of a network's floating tensors, buffers included."""

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: torch.nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, (self.steps + 1) / (self.steps + 10)) if self.decay else 0.0
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


def fit(
    network: Any,
    recipe: Recipe,
    part: Material,
    feed: Feed,
    validation: Material,
    validation_feed: Feed,
    folder: str | Path,
    *,
    seed: int = 0,
    resume: bool = False,
    say: Say = lambda line: None,
) -> Trained:
    """Train; returns the epoch with the best validation mAP (queries: validation, gallery: training pictures).

    folder: holds the checkpoint, history.csv and curves.png. resume: go on from the checkpoint there.
    Raises TrainingError for a checkpoint of another run and for a loss that is not finite: then the last good
    checkpoint stays, and nan.json names the batch.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    loss = hash_loss(
        recipe.loss,
        network.bits,
        np.bincount(part.labels["label"], minlength=network.classes["label"]).tolist(),
        recipe.sampling == "tempered",
    )
    optimiser = optimiser_of(network, recipe)
    mean = RunningMean(network, recipe.average)
    steps = max(1, len(part) // recipe.batch)
    history: list[dict[str, Any]] = []
    best: dict[str, Any] = {"map": -1.0, "epoch": -1, "state": None}
    identity = {
        "network": record(network), "recipe": asdict(recipe), "seed": seed, "images": part.pictures.digest,
        "labels": labels_digest(part, validation), "stem": stem_digest(network.stem),
    }  # fmt: skip
    histogram: Tensor | None = None
    start: torch.nn.Linear | None = None
    if resume:
        kept = _read_checkpoint(folder, identity)
        if kept is not None:
            network.load_state_dict(kept["network"])
            optimiser.load_state_dict(kept["optimiser"])
            mean.state = {name: kept["mean"][name].to(value.device) for name, value in mean.state.items()}
            mean.steps = kept["mean_steps"]
            history, best = kept["history"], kept["best"]
            if kept["start"] is not None:
                start = copy.deepcopy(network.hash_head.direct).requires_grad_(False)
                start.load_state_dict(kept["start"])
            if kept["histogram"] is not None:
                histogram = kept["histogram"].to(next(network.parameters()).device)
            say(f"going on after epoch {len(history)} of {recipe.epochs}")
    if not history and recipe.depth_steps and isinstance(feed, FrozenFeed) and network.depth_branch is not None:
        fit_depths(network, recipe, part, feed.maps, feed.device, seed, say)
        mean = RunningMean(network, recipe.average)
        score = validation_map(feed, part, validation_feed, validation, seed, coded=False)
        say(f"depth branch trained: mAP {score:.4f} in float")
    weights = sampling_weights(part.dataset, recipe.sampling)
    feature_epochs = min(recipe.feature_epochs, recipe.epochs - 1) if network.settings.linear else 0
    for epoch in range(len(history), recipe.epochs):
        coded = epoch >= feature_epochs
        # EncodedQuery before an epoch, so that a run which had stopped does not go on when it is resumed.
        if epoch - max(best["epoch"], feature_epochs) >= recipe.patience:
            say(f"no better mAP for {recipe.patience} epochs: stopped")
            break
        if feature_epochs and epoch == feature_epochs:
            network.load_state_dict(mean.state)
            found = served_outputs(feed, len(part), ("code_parts",))["code_parts"]
            start_code(network, found, [sample.source for sample in part.dataset], recipe.code_whitening, seed)
            start = copy.deepcopy(network.hash_head.direct).requires_grad_(False)
            mean = RunningMean(network, recipe.average)
        # A stream of its own an epoch: a resumed run draws what the uninterrupted one would have drawn.
        random = np.random.default_rng((seed, epoch))
        torch.manual_seed(seed * 100_003 + epoch)
        network.train()
        _hold_frozen(network, recipe)
        started, waiting = time.perf_counter(), 0.0
        sums: dict[str, float] = {}
        order = random.permutation(len(part)) if recipe.sampling == "uniform" else None
        batches = ahead(batches_of(part, feed, recipe.batch, steps, order, weights, random))
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = _rate(recipe, epoch + step / steps) * group["scale"]
            begun = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - begun
            rows = batch.rows
            judged = take_step(network, recipe, feed, loss, optimiser, batch, coded, start)
            if not math.isfinite(float(judged.total.detach())):
                _report_nan(folder, part, rows, epoch, step, judged.parts)
            mean.update(network)
            for name, value in judged.parts.items():
                sums[name] = sums.get(name, 0.0) + value
            if judged.histogram is not None:
                histogram = judged.histogram if histogram is None else histogram + judged.histogram
        seconds = time.perf_counter() - started
        raw = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(mean.state)
        score = validation_map(feed, part, validation_feed, validation, seed, coded)
        row = {"epoch": epoch + 1, **{name: value / steps for name, value in sums.items()}}
        row |= {"map" if coded else "map_feature": score, "seconds": seconds, "waiting": waiting / seconds}
        row["rate"] = _rate(recipe, epoch + 1)
        history.append({name: value if name == "epoch" else round(float(value), 6) for name, value in row.items()})
        if coded and score > best["map"]:
            state = {name: value.cpu().clone() for name, value in network.state_dict().items()}
            best = {"map": score, "epoch": epoch + 1, "state": state}
        network.load_state_dict(raw)
        _write_checkpoint(folder, identity, network, optimiser, mean, history, best, histogram, start)
        keep_history(history, folder)
        rate = steps * recipe.batch / seconds
        say(f"epoch {epoch + 1} of {recipe.epochs}: mAP {score:.4f}, {rate:.0f} images/s")
    if best["state"] is None:
        raise TrainingError("no epoch was run; set epochs to at least 1")
    network.load_state_dict(best["state"])
    return Trained(
        best["state"], best["epoch"], history, None if histogram is None else histogram.cpu().tolist()
    )


def validation_map(
    feed: Feed, part: Material, other: Feed, queries: Material, seed: int, coded: bool = True
) -> float:
    """mAP of queries against at most 3,000 training pictures: of codes, expected over ties, or of features."""
    name = "u" if coded else "feature"
    items = served_outputs(feed, len(part), (name,))[name]
    asked = served_outputs(other, len(queries), (name,))[name]
    rows = np.random.default_rng(seed).permutation(len(part))[:VALIDATION_GALLERY]
    relevance = queries.labels["label"][:, None] == part.labels["label"][rows][None]
    relevance &= queries.labels["label"][:, None] >= 0
    if not coded:
        return float(score_features(asked, items[rows], relevance).mean("map_expected"))
    return float(score_codes(pack(asked > 0), pack(items[rows] > 0), relevance).mean("map_expected"))


def optimiser_of(network: Any, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over what a recipe trains; what it keeps as it is no longer asks for gradients."""
    frozen = recipe.protocol == "frozen"
    stem = list(network.stem.parameters())
    for parameter in stem:
        parameter.requires_grad_(not frozen)
    if network.linear_branch is not None:
        # What the untouched features know stays as it was fitted.
        network.linear_branch.requires_grad_(False)
    if network.discriminant is not None:
        network.discriminant.requires_grad_(False)
    if network.depth_branch is not None:
        # So does what fit_depths teaches the members of the depth branch.
        network.depth_branch.requires_grad_(not (frozen and recipe.depth_steps))
    inside = {id(parameter) for parameter in stem}
    heads = [p for p in network.parameters() if id(p) not in inside and p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": heads, "scale": 1.0}]
    if not frozen:
        groups.append({"params": stem, "scale": recipe.stem_rate / recipe.rate})
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.decay)


def _hold_frozen(network: Any, recipe: Recipe) -> None:
    """Batch statistics of a frozen stem stay, and what is held beside it drops nothing out."""
    if recipe.protocol == "frozen":
        network.stem.eval()
        if network.depth_branch is not None and recipe.depth_steps:
            network.depth_branch.eval()


def _rate(recipe: Recipe, epoch: float) -> float:
    """Linear warm-up from start_rate, then cosine to end_rate."""
    if epoch < recipe.warmup:
        return recipe.start_rate + (recipe.rate - recipe.start_rate) * epoch / recipe.warmup
    share = min(1.0, (epoch - recipe.warmup) / max(1e-9, recipe.epochs - recipe.warmup))
    return recipe.end_rate + (recipe.rate - recipe.end_rate) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Batch:
    """rows of the training pictures, and what a step takes of them, on the device."""

    rows: np.ndarray
    labels: dict[str, Tensor]
    fingerprints: Tensor
    inputs: tuple[Tensor, ...]


def batches_of(
    part: Material,
    feed: Feed,
    size: int,
    steps: int,
    order: np.ndarray | None,
    weights: np.ndarray,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """The batches of an epoch, on the device: rows of `order`, or drawn by weight where there is none."""
    device = feed.device
    for step in range(steps):
        rows = random.choice(len(part), size, p=weights) if order is None else order[step * size : (step + 1) * size]
        labels = {level: torch.from_numpy(found[rows]).to(device) for level, found in part.labels.items()}
        prints = torch.from_numpy(part.pictures.fingerprints[rows]).to(device).float()
        yield Batch(rows, labels, prints, feed.batch(rows, random))


def take_step(
    network: Any,
    recipe: Recipe,
    feed: Feed,
    loss: HashLoss,
    optimiser: torch.optim.AdamW,
    batch: Batch,
    coded: bool,
    start: torch.nn.Linear | None = None,
) -> Judged:
    """One step of the optimiser; none where the loss is not finite. coded: see objective.judge; start: the linear
    map from the feature to the real code that training started from."""
    outputs = feed.run(batch.inputs)
    if start is not None:
        outputs["start"] = start(outputs["code_parts"].float()).detach()
    judged = judge(outputs, batch.labels, batch.fingerprints, loss, recipe, network.learned_width, coded)
    if torch.isfinite(judged.total):
        optimiser.zero_grad(set_to_none=True)
        judged.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimiser.step()
    return judged


def _report_nan(
    folder: Path, part: Material, rows: np.ndarray, epoch: int, step: int, parts: dict[str, float]
) -> None:
    paths = [part.dataset.samples[row].path for row in rows]
    note = {"epoch": epoch + 1, "step": step + 1, "parts": parts, "paths": paths}
    write_text(folder / "nan.json", json.dumps(note, indent=1), PRIVATE)
    terms = ", ".join(f"{name} {value:g}" for name, value in parts.items())
    raise TrainingError(
        f"the loss of epoch {epoch + 1}, step {step + 1} is not finite ({terms}); the batch is in "
        f"{folder / 'nan.json'}, the last good epoch in {folder / CHECKPOINT}: lower the rate and --resume"
    )


def _write_checkpoint(
    folder: Path,
    identity: dict[str, Any],
    network: Any,
    optimiser: torch.optim.AdamW,
    mean: RunningMean,
    history: list[dict[str, Any]],
    best: dict[str, Any],
    histogram: Tensor | None,
    start: torch.nn.Linear | None,
) -> None:
    with drafted(folder / CHECKPOINT, alone=True) as draft:
        torch.save(
            {
                "identity": identity,
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "mean": mean.state,
                "mean_steps": mean.steps,
                "history": history,
                "best": best,
                "histogram": histogram,
                "start": None if start is None else start.state_dict(),
            },
            draft,
        )


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. TrainingError for a file that is damaged or none of ours."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises what the damage happens to provoke, with advice that does not fit here
        kept = None
    if not isinstance(kept, dict) or "identity" not in kept:
        raise TrainingError(f"{path} is damaged or no checkpoint of this program; remove it to start again")
    return kept


def _read_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    kept = load_checkpoint(path)
    there = json.loads(json.dumps(kept["identity"]))
    for name, value in json.loads(json.dumps(identity)).items():
        if there.get(name) != value:
            raise TrainingError(
                f"{path} belongs to another run: its {name} differs; give another --work folder, or start again "
                "without --resume"
            )
    return kept
