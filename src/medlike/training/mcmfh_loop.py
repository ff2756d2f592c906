"""Training MCMFH: from a linear start, by contrast between views of pairs, the best epoch chosen on validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medlike.bundle.text_bundle import IMAGE, TEXT, VIEWS
from medlike.errors import TrainingError
from medlike.metrics import score_codes, score_features
from medlike.models.changes import with_changes
from medlike.models.mcmfh import CrossModalNetwork, CrossModalSettings
from medlike.models.mcmfh_parts import unit
from medlike.training.checkpoints import Content
from medlike.training.correlation import canonical_correlation, sign_frame
from medlike.training.losses.bit_balance import bit_balance
from medlike.training.losses.gating import gating
from medlike.training.losses.pair_contrast import three_view_contrast
from medlike.training.losses.quantisation import quantisation
from medlike.training.pairs import Pairs
from medlike.training.runner import Stage, run_stage
from medlike.types import Progress

# The cut-off by which epochs are chosen, that of the study.
CUT = 50
# Inverse temperatures beyond this make the contrast a search for the single best pair.
STEEPEST = 100.0
CLIP = 1.0


@dataclass(frozen=True)
class CrossModalRecipe:
    """How the network is trained.

    epochs, batch, rate, decay: of AdamW with a cosine schedule; projections: their rate, as a share of `rate`. noise:
    length, relative to the embedding's, of a random vector added to it at every step. start: "linear" (canonical
    correlation, signs of a frame) or "random"; penalty, power: of the correlation. affinity: temperature by which
    the likeness of images says how much pairs belong together, for the start (0: not at all) and, with the weight
    `soft`, for the contrast. contrast_codes, with_both, gating, quantise, balance: weights of the loss' terms.
    temperature: where the learned one begins. turned: set the hash head, at the end, to a learned rotation of the
    embeddings that were trained (what it learned itself serves them, but tells less of them). masked: train with
    absent sides (else the two tokens of one joint pass are contrasted, for the ablation).
    """

    epochs: int = 20
    batch: int = 256
    rate: float = 5e-3
    projections: float = 0.0
    decay: float = 0.05
    noise: float = 1.5
    start: str = "linear"
    penalty: float = 5.0
    power: float = 1.0
    affinity: float = 0.1
    soft: float = 0.8
    contrast_codes: float = 0.5
    with_both: float = 0.5
    gating: float = 0.01
    quantise: float = 0.02
    balance: float = 0.5
    temperature: float = 1.0
    turned: bool = True
    masked: bool = True

    def with_changes(self, **changes: object) -> CrossModalRecipe:
        """Return the recipe with changes; TrainingError lists the known settings."""
        return with_changes(self, changes, "recipe setting")


@dataclass
class CrossModalFit:
    """A trained network, how it went epoch by epoch, which epoch was kept (0: the start), and what came of it.

    validation: retrieval among validation pairs of the network as it is returned, in the unit of the history's.
    """

    network: CrossModalNetwork
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    validation: float = 0.0


def fit_crossmodal(
    train: Pairs,
    validation: Pairs,
    settings: CrossModalSettings,
    recipe: CrossModalRecipe = CrossModalRecipe(),
    seed: int = 0,
    build: Callable[[CrossModalSettings], Any] = CrossModalNetwork,
    say: Progress[str] = lambda line: None,
    *,
    folder: Path | None = None,
    resume: bool = False,
) -> CrossModalFit:
    """Train a network on pairs and keep the epoch with the best retrieval among validation pairs.

    The same pairs, settings and seed give the same weights on one machine.

    Args:
        train: The pairs to learn from, 8 or more.
        validation: The pairs by which the epoch is chosen.
        settings: The shape of the network.
        recipe: How it is trained.
        seed: Fixes weights, noise and batches.
        build: Makes the network; other methods give a class with the same inputs and outputs.
        say: Takes lines of progress.
        folder: Holds checkpoint, history and curves; None keeps none.
        resume: Go on from the checkpoint in `folder`.

    Raises:
        TrainingError: There are too few pairs, or the loss is not finite.
    """
    if len(train) < 8:
        raise TrainingError(f"{len(train)} pairs of image and text to train on; give 8 or more")
    torch.manual_seed(seed)
    network = build(settings)
    inputs, judged = _voted(network, train), _voted(network, validation)
    if recipe.start == "linear":
        inputs, judged = _linear_start(network, train, validation, inputs, recipe, seed)
    elif recipe.start != "random":
        raise TrainingError(f"start is {recipe.start!r}; give linear or random")
    scale = torch.nn.Parameter(torch.full((2,), math.log(1 / recipe.temperature)))
    # A batch of one pair has nothing to contrast it with.
    steps = sum(len(rows) > 1 for rows in torch.arange(len(train)).split(recipe.batch))
    planned = max(1, recipe.epochs * math.ceil(len(train) / recipe.batch))
    cases = torch.from_numpy(train.cases)
    images = torch.from_numpy(_unit_content(train)).float()
    source = torch.Generator().manual_seed(seed)

    def batches(epoch: int) -> Iterator[Tensor]:
        return (rows for rows in torch.randperm(len(train), generator=source).split(recipe.batch) if len(rows) > 1)

    def loss(rows: Tensor) -> tuple[Tensor, dict[str, float]]:
        given = [_noisy(side[rows], recipe.noise, source) for side in inputs]
        positive = positives(cases[rows], images[rows], recipe)
        terms = loss_terms(network, given[0], given[1], positive, scale, recipe)
        total = torch.stack(list(terms.values())).sum()
        # Weighted, so that the mean over batches is the mean over pairs.
        return total, {"loss": float(total.detach()) * len(rows) * steps / len(train)}

    def restore(content: Content) -> None:
        scale.data.copy_(content["scale"])
        source.set_state(content["source"])
        torch.set_rng_state(content["dropout"])

    stage = Stage(
        "text",
        network,
        _optimiser(network, scale, recipe),
        batches,
        loss,
        steps,
        recipe.epochs,
        rate=lambda epoch, step: recipe.rate * _factor(epoch * steps + step, planned),
        clip=CLIP,
        validate=lambda epoch: {"validation": _judge(network, judged, validation)},
        figure="validation",
        starts_judged=True,
        identity={
            "stage": "text", "network": build.__name__, "settings": asdict(settings), "recipe": asdict(recipe),
            "seed": seed, "pairs": _digest(train, validation),
        },
        begin=lambda epoch, run: network.train(),
        state=lambda: {"scale": scale.data, "source": source.get_state(), "dropout": torch.get_rng_state()},
        restore=restore,
        advice="--set rate",
        report=10,
    )  # fmt: skip
    run = run_stage(stage, folder, resume=resume, say=say)
    validation_map = run.best["validation"]
    if recipe.turned:
        _turn_code(network, inputs, seed)
        validation_map = _judge(network, judged, validation)
    network.eval()
    history = [{n: v for n, v in row.items() if n in ("epoch", "loss", "validation")} for row in run.history]
    return CrossModalFit(network, history, run.best["epoch"], validation_map)


def _digest(*parts: Pairs) -> str:
    """Return a sha256 over the vectors and cases of pairs."""
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.content, part.sentences, part.cases):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def positives(cases: Tensor, images: Tensor, recipe: CrossModalRecipe) -> Tensor:
    """Return how much pairs of a batch belong together: float [B, B], rows sum to 1.

    cases: int64 [B]; images: float [B, D].

    One part is shared by the pairs of one case, the part `soft` goes by the affinity of the images.
    """
    same = (cases[:, None] == cases[None]).float()
    hard = same / same.sum(dim=1, keepdim=True)
    if not recipe.soft:
        return hard
    return (1 - recipe.soft) * hard + recipe.soft * (images @ images.T / recipe.affinity).softmax(dim=1)


def loss_terms(
    network: CrossModalNetwork,
    image: Tensor,
    sentence: Tensor,
    positive: Tensor,
    scale: Tensor,
    recipe: CrossModalRecipe,
) -> dict[str, Tensor]:
    """Return the weighted terms of the loss on a batch of voted embeddings; their sum is minimised."""
    steep = scale.exp().clamp(max=STEEPEST)
    if recipe.masked:
        views = [image.new_tensor([view]).expand(len(image), 2) for view in VIEWS]
        outputs = [network(image, sentence, view) for view in views]
        embeddings, codes = [f["embedding"] for f in outputs], [f["u"] for f in outputs]
        logits = [gate for f in outputs for gate in f["logits"]]
    else:
        joint = network(image, sentence, image.new_ones(len(image), 2))
        embeddings = [unit(joint["tokens"][:, 0]), unit(joint["tokens"][:, 1]), joint["embedding"]]
        codes = [network.hashed(embedding) for embedding in embeddings]
        logits = joint["logits"]
    hashes = [unit(torch.tanh(u)) for u in codes]
    together = torch.cat(codes)

    def contrast(views: list[Tensor], steep: Tensor) -> Tensor:
        return three_view_contrast(views[0], views[1], views[2], positive, steep, recipe.with_both)

    terms = {
        "contrast": contrast(embeddings, steep[0]),
        "contrast of codes": recipe.contrast_codes * contrast(hashes, steep[1]),
        "quantisation": recipe.quantise * quantisation(together),
        "balance": recipe.balance * bit_balance(together),
    }
    if logits and recipe.gating:
        chosen = network.settings.chosen
        terms["gating"] = recipe.gating * torch.stack([gating(gate, chosen) for gate in logits]).sum()
    return terms


@torch.no_grad()
def crossed(network: CrossModalNetwork, pairs: Pairs, view: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings float32 [N, W] and packed codes uint8 [N, K/8] of pairs in one view."""
    return _outputs(network, _voted(network, pairs), view)


@torch.no_grad()
def _outputs(
    network: CrossModalNetwork, voted: tuple[Tensor, Tensor], view: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    network.eval()
    outputs = network(*voted, voted[0].new_tensor([view]).expand(len(voted[0]), 2))
    return outputs["embedding"].numpy(), np.packbits(outputs["u"].numpy() > 0, axis=1)


@torch.no_grad()
def _voted(network: CrossModalNetwork, pairs: Pairs) -> tuple[Tensor, Tensor]:
    content = torch.from_numpy(pairs.content.astype(np.float32))
    centred = content - content.mean(dim=1, keepdim=True)
    sentences = torch.from_numpy(pairs.sentences)
    parts = [network.voted(a, b) for a, b in zip(centred.split(256), sentences.split(256), strict=True)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


@torch.no_grad()
def _linear_start(
    network: CrossModalNetwork,
    train: Pairs,
    validation: Pairs,
    inputs: tuple[Tensor, Tensor],
    recipe: CrossModalRecipe,
    seed: int,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Set projections (canonical correlation) and hash head (signs of a frame); return the inputs, now centred."""
    s = network.settings
    seen = inputs[0].double().numpy()
    if recipe.affinity:
        seen = smoothed(seen, _unit_content(train), recipe.affinity)
    correlation = canonical_correlation(seen, inputs[1].double().numpy(), s.width, recipe.penalty, recipe.power)

    def put(where: Tensor, value: np.ndarray) -> None:
        where.zero_()
        where[: len(value)] = torch.from_numpy(np.ascontiguousarray(value)).to(where.dtype)

    put(network.image_mean, correlation.first_mean)
    put(network.sentence_mean, correlation.second_mean)
    put(network.image_projection.weight, correlation.first.T)
    put(network.sentence_projection.weight, correlation.second.T)
    inputs = _voted(network, train)
    _turn_code(network, inputs, seed)
    return inputs, _voted(network, validation)


@torch.no_grad()
def _turn_code(network: CrossModalNetwork, inputs: tuple[Tensor, Tensor], seed: int) -> None:
    """Set the hash head to a learned rotation (ITQ) of the leading directions of single sides' embeddings, in place.

    The bent path is silenced. Values of the codes have a mean square of 1.
    """
    s = network.settings
    rows = np.concatenate([_outputs(network, inputs, view)[0] for view in (IMAGE, TEXT)]).astype(np.float64)
    mean = rows.mean(axis=0)
    rows -= mean
    leading = np.linalg.svd(rows, full_matrices=False)[2][: s.bits].T
    table = leading @ sign_frame(rows @ leading, s.bits, seed=seed)
    table /= np.sqrt(np.mean((rows @ table) ** 2) * s.width)
    network.straight.weight.copy_(torch.from_numpy(table.T))
    # hashed() sees embeddings times the root of their width.
    network.straight.bias.copy_(torch.from_numpy(-(mean @ table) * s.width**0.5))
    network.bent.weight.zero_()


def smoothed(rows: np.ndarray, images: np.ndarray, temperature: float) -> np.ndarray:
    """Return each row as the mean of all rows, weighted by the affinity of the images (of unit length)."""
    affinity = images @ images.T / temperature
    weights = np.exp(affinity - affinity.max(axis=1, keepdims=True))
    return np.asarray(weights @ rows / weights.sum(axis=1, keepdims=True))


def _unit_content(pairs: Pairs) -> np.ndarray:
    """Return centred content vectors of unit length, float64 [N, D]: their product is Pearson's correlation."""
    wide = pairs.content.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def _judge(network: CrossModalNetwork, voted: tuple[Tensor, Tensor], pairs: Pairs) -> float:
    """Return the mean mAP@50 of codes and embeddings, both directions, `single`; a pair's own unit is left out.

    Relevant: the same label; where labels say nothing, the same case is what must be found, own unit included.
    """
    if len(pairs) < 2:
        return 0.0
    image, text = (_outputs(network, voted, view) for view in (IMAGE, TEXT))
    relevance = pairs.relevance()
    scores = []
    for a, b in ((image, text), (text, image)):
        scores += [score_features(a[0], b[0], relevance, CUT), score_codes(a[1], b[1], relevance, CUT)]
    values = [score.mean("map_at_k") for score in scores]
    return float(np.nanmean(values)) if not np.isnan(values).all() else 0.0


def _noisy(side: Tensor, noise: float, source: torch.Generator) -> Tensor:
    if not noise:
        return side
    drawn = torch.randn(side.shape, generator=source)
    return side + noise * side.norm(dim=1, keepdim=True) * drawn / math.sqrt(side.shape[1])


def _optimiser(network: CrossModalNetwork, scale: Tensor, recipe: CrossModalRecipe) -> torch.optim.AdamW:
    """Return AdamW without decay on vectors, with a rate of its own for projections."""
    slow = [p for name, p in network.named_parameters() if name.endswith("projection.weight")]
    rest = [p for name, p in network.named_parameters() if not name.endswith("projection.weight")]
    return torch.optim.AdamW(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.decay},
            {"params": [scale, *(p for p in rest if p.ndim <= 1)], "weight_decay": 0.0},
            {"params": slow, "weight_decay": 0.0, "scale": recipe.projections},
        ],
        lr=recipe.rate,
    )


def _factor(step: int, steps: int) -> float:
    """Return the share of the learning rate: a warm-up over a tenth of the steps, times a cosine to zero."""
    warm = max(1, steps // 10)
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
