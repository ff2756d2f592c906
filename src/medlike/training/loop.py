"""Stage 1: the whole-image network learns its feature, then its code; the epoch with the best mAP is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medlike.codes.packing import pack
from medlike.metrics.retrieval import score_codes, score_features
from medlike.models.acir import ImageNetwork
from medlike.models.networks import record
from medlike.training.checkpoints import Content
from medlike.training.depths import fit_depths
from medlike.training.feed import FrozenFeed, PictureFeed, ahead, served_outputs
from medlike.training.maps import stem_digest
from medlike.training.material import Material, labels_digest, sampling_weights
from medlike.training.objective import HashLoss, Judged, hash_loss, judge
from medlike.training.recipe import Recipe
from medlike.training.runner import Run, RunningMean, Stage, run_stage
from medlike.training.start import start_code
from medlike.types import Progress

Feed = FrozenFeed | PictureFeed
CHECKPOINT = "checkpoint.pt"
VALIDATION_GALLERY = 3000
CLIP = 5.0


@dataclass
class Trained:
    """The best state of a run: its weights, its epoch, the history of all epochs, pairs by H [2,20] or None."""

    state: dict[str, Tensor]
    epoch: int
    history: list[dict[str, float]]
    histogram: list[list[float]] | None


def fit(
    network: ImageNetwork,
    recipe: Recipe,
    part: Material,
    feed: Feed,
    validation: Material,
    validation_feed: Feed,
    folder: str | Path,
    *,
    seed: int = 0,
    gallery: int = VALIDATION_GALLERY,
    resume: bool = False,
    say: Progress[str] = lambda line: None,
) -> Trained:
    """Train a whole-image network; return the epoch with the best validation mAP.

    Args:
        network: The network, on the device of the feeds.
        recipe: How it is trained.
        part: The training pictures, which are also the gallery of the validation.
        feed: Outputs of the network on them.
        validation: The queries of the validation.
        validation_feed: Outputs of the network on them.
        folder: Holds the checkpoint, history.csv and curves.png.
        seed: Fixes the weights on one machine.
        gallery: Training pictures that the validation searches, at most.
        resume: Go on from the checkpoint in `folder`.
        say: Takes lines of progress.

    Raises:
        TrainingError: The checkpoint is of another run, or the loss is not finite. Then the last good checkpoint
            stays, and nan.json names the batch.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    first = _FirstStage(network, recipe, part, feed, validation, validation_feed, seed, gallery, say)
    stage = Stage(
        "",
        network,
        optimiser_of(network, recipe),
        first.batches,
        first.judged,
        first.steps,
        recipe.epochs,
        rate=lambda epoch, step: _rate(recipe, epoch + step / first.steps),
        clip=CLIP,
        validate=first.validate,
        figure="map",
        # A mean of the last weights alone would be a copy of them; the code's start reads one all the same.
        average=recipe.average if recipe.average or first.feature_epochs else None,
        patience=recipe.patience,
        identity={
            "network": record(network), "recipe": asdict(recipe), "seed": seed, "images": part.pictures.digest,
            "labels": labels_digest(part, validation), "stem": stem_digest(network.stem),
        },
        prepare=first.prepare,
        begin=first.begin,
        state=first.state,
        restore=first.restore,
        describe=lambda batch: {"paths": [part.dataset.samples[row].path for row in batch.rows]},
    )  # fmt: skip
    run = run_stage(stage, folder, resume=resume, say=say)
    histogram = None if first.histogram is None else first.histogram.cpu().tolist()
    return Trained(run.best["state"], run.best["epoch"], run.history, histogram)


@dataclass
class _FirstStage:
    """The steps of stage 1, and what of them lasts from one epoch to the next.

    start: the linear map from the feature to the real code from which the code is trained, None before; histogram:
    pairs by H [2,20], None for losses that count none.
    """

    network: ImageNetwork
    recipe: Recipe
    part: Material
    feed: Feed
    validation: Material
    validation_feed: Feed
    seed: int
    gallery: int
    say: Progress[str]
    start: torch.nn.Linear | None = None
    histogram: Tensor | None = None
    coded: bool = False

    def __post_init__(self) -> None:
        network, recipe, part = self.network, self.recipe, self.part
        sizes = np.bincount(part.labels["label"], minlength=network.classes["label"]).tolist()
        self.loss = hash_loss(recipe.loss, network.bits, sizes, recipe.sampling == "tempered")
        self.steps = max(1, len(part) // recipe.batch)
        self.feature_epochs = min(recipe.feature_epochs, recipe.epochs - 1) if network.settings.linear else 0

    def prepare(self) -> None:
        """Train the depth branch, where the network has one and the stem is frozen."""
        if not (self.recipe.depth_steps and isinstance(self.feed, FrozenFeed)) or self.network.depth_branch is None:
            return
        fit_depths(self.network, self.recipe, self.part, self.feed.maps, self.feed.device, self.seed, self.say)
        self.say(f"depth branch trained: mAP {self._map(False):.4f} in float")

    def begin(self, epoch: int, run: Run) -> None:
        """Start the code where the feature is trained; seed, so that a resumed run draws what it would have drawn."""
        self.coded = epoch >= self.feature_epochs
        if self.feature_epochs and epoch == self.feature_epochs:
            assert run.mean is not None
            self.network.load_state_dict(run.mean.state)
            parts = served_outputs(self.feed, len(self.part), ("code_parts",))["code_parts"]
            sources = [sample.source for sample in self.part.dataset]
            start_code(self.network, parts, sources, self.recipe.code_whitening, self.seed)
            self.start = self._fixed_head()
            run.mean = RunningMean(self.network, self.recipe.average)
        torch.manual_seed(self.seed * 100_003 + epoch)
        self.network.train()
        if self.recipe.protocol == "frozen":
            # No batch statistics for a frozen stem, no dropout in a depth branch that is frozen with it.
            self.network.stem.eval()
            if self.network.depth_branch is not None and self.recipe.depth_steps:
                self.network.depth_branch.eval()

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, each made while the one before is worked on."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.part)) if self.recipe.sampling == "uniform" else None
        weights = sampling_weights(self.part.dataset, self.recipe.sampling)
        return ahead(batches_of(self.part, self.feed, self.recipe.batch, self.steps, order, weights, random))

    def judged(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of a batch and its terms."""
        judged = judge_batch(self.network, self.recipe, self.feed, self.loss, batch, self.coded, self.start)
        if judged.histogram is not None:
            self.histogram = judged.histogram + (0 if self.histogram is None else self.histogram)
        return judged.total, judged.parts

    def validate(self, epoch: int) -> dict[str, float]:
        """Return the mAP of codes; of features before there are any codes."""
        coded = epoch >= self.feature_epochs
        return {"map" if coded else "map_feature": self._map(coded)}

    def _map(self, coded: bool) -> float:
        both = (self.feed, self.part, self.validation_feed, self.validation)
        return validation_map(*both, self.seed, coded, self.gallery)

    def _fixed_head(self) -> torch.nn.Linear:
        head = self.network.hash_head.direct
        assert head is not None, "a code that starts from features has a direct head"
        return copy.deepcopy(head).requires_grad_(False)

    def state(self) -> Content:
        """Return what a checkpoint keeps beside the network."""
        return {"histogram": self.histogram, "start": None if self.start is None else self.start.state_dict()}

    def restore(self, content: Content) -> None:
        """Take back what `state` gave."""
        if content["start"] is not None:
            self.start = self._fixed_head()
            self.start.load_state_dict(content["start"])
        if content["histogram"] is not None:
            self.histogram = content["histogram"].to(next(self.network.parameters()).device)


def validation_map(
    feed: Feed,
    part: Material,
    other: Feed,
    queries: Material,
    seed: int,
    coded: bool = True,
    gallery: int = VALIDATION_GALLERY,
) -> float:
    """Return the mAP of queries in `gallery` training pictures: of codes (ties in expectation) or features."""
    name = "u" if coded else "feature"
    rows = np.random.default_rng(seed).permutation(len(part))[:gallery]
    if len(rows) < len(part):
        items = served_outputs(feed, rows, (name,))[name]
    else:
        items = served_outputs(feed, len(part), (name,))[name][rows]
    query = served_outputs(other, len(queries), (name,))[name]
    relevance = queries.labels["label"][:, None] == part.labels["label"][rows][None]
    relevance &= queries.labels["label"][:, None] >= 0
    if not coded:
        return float(score_features(query, items, relevance).mean("map_expected"))
    return float(score_codes(pack(query > 0), pack(items > 0), relevance).mean("map_expected"))


def optimiser_of(network: ImageNetwork, recipe: Recipe) -> torch.optim.AdamW:
    """Return AdamW over what a recipe trains, and freeze all else."""
    frozen = recipe.protocol == "frozen"
    stem = list(network.stem.parameters())
    for parameter in stem:
        parameter.requires_grad_(not frozen)
    if network.linear_branch is not None:
        # The linear parts stay as they were fitted to the untouched features.
        network.linear_branch.requires_grad_(False)
    if network.discriminant is not None:
        network.discriminant.requires_grad_(False)
    if network.depth_branch is not None:
        # The depth branch stays as fit_depths trained it.
        network.depth_branch.requires_grad_(not (frozen and recipe.depth_steps))
    inside = {id(parameter) for parameter in stem}
    heads = [p for p in network.parameters() if id(p) not in inside and p.requires_grad]
    groups: list[dict[str, object]] = [{"params": heads, "scale": 1.0}]
    if not frozen:
        groups.append({"params": stem, "scale": recipe.stem_rate / recipe.rate})
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.decay)


def _rate(recipe: Recipe, epoch: float) -> float:
    """Return the learning rate: a linear warm-up from start_rate, then a cosine to end_rate."""
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
    """Yield the batches of an epoch, on the device: rows of `order`, or drawn by weight where there is none."""
    device = feed.device
    for step in range(steps):
        rows = random.choice(len(part), size, p=weights) if order is None else order[step * size : (step + 1) * size]
        labels = {level: torch.from_numpy(known[rows]).to(device) for level, known in part.labels.items()}
        prints = torch.from_numpy(part.pictures.fingerprints[rows]).to(device).float()
        yield Batch(rows, labels, prints, feed.batch(rows, random))


def judge_batch(
    network: ImageNetwork,
    recipe: Recipe,
    feed: Feed,
    loss: HashLoss,
    batch: Batch,
    coded: bool,
    start: torch.nn.Linear | None = None,
) -> Judged:
    """Return the loss of a batch.

    coded: see objective.judge. start: the linear map from the feature to the real code that training started from.
    """
    outputs = feed.run(batch.inputs)
    if start is not None:
        outputs["start"] = start(outputs["code_parts"].float()).detach()
    return judge(outputs, batch.labels, batch.fingerprints, loss, recipe, network.learned_width, coded)
