"""Stage 3 of HMAR: the gate between whole-image and regional distance, trained last, everything else frozen.

Training queries with and without a crop, a listwise loss on the blended distance; crops are random windows, so no
box is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch

from medlike.codes import hamming
from medlike.codes.templates import GRID, Template
from medlike.codes.windows import match
from medlike.metrics.retrieval import score
from medlike.metrics.ties import score_counts
from medlike.models.experts import Gate
from medlike.models.hmar import RegionalNetwork
from medlike.training.cells_training import CellRecipe
from medlike.training.losses.listwise import blended_distance, listwise
from medlike.training.runner import Stage, run_stage
from medlike.types import F32, I64, U8, U64, JsonObject, Mask, Progress

SIDES = (4, 9)
DECAY = 0.1


@dataclass(frozen=True)
class GateMaterial:
    """What the gate learns from, of N pictures.

    standard: float32 [N,P], standardised pooled depths; modality: float32 [N,M] or None; codes: uint8 [N,K/8]; cells:
    uint64 [N,14,14,W]; content: bool [N,196]; labels: int64 [N], below 0 unknown.
    """

    standard: F32
    modality: F32 | None
    codes: U8
    cells: U64
    content: Mask
    labels: I64


@dataclass(frozen=True)
class Lists:
    """Q queries against M candidates each: distances as shares of differing bits, relevance, inputs of the gate."""

    whole: F32
    local: F32
    relevance: Mask
    boxed: F32
    rows: I64


def fit_gate(
    network: RegionalNetwork,
    recipe: CellRecipe,
    train: GateMaterial,
    validation: GateMaterial,
    *,
    seed: int = 0,
    say: Progress[str] = lambda line: None,
) -> JsonObject:
    """Train the gate of a network in place.

    Returns:
        For validation queries with and without a crop: the mean share of the local distance, and the mean average
        precision over candidates of blended and of hard routing (whole image without a crop, region with one).
    """
    torch.manual_seed(seed)
    gate = network.gate
    device = gate.linear.weight.device
    network.eval().requires_grad_(False)
    gate.requires_grad_(True)
    lists = draw_lists(train, recipe, np.random.default_rng((seed, 17)))
    optimiser = torch.optim.AdamW(gate.parameters(), lr=recipe.gate_rate, weight_decay=DECAY)
    distances = [torch.from_numpy(each).to(device) for each in (lists.whole, lists.local)]
    relevance = torch.from_numpy(lists.relevance).to(device)

    def judged(_: None) -> tuple[torch.Tensor, dict[str, float]]:
        loss = listwise(blended_distance(_shares(gate, train, lists), *distances), relevance)
        return loss, {"loss": float(loss.detach())}

    run = run_stage(Stage("gate", gate, optimiser, lambda epoch: repeat(None), judged, recipe.gate_steps))
    gate.requires_grad_(False)
    with torch.no_grad():
        drawn = draw_lists(validation, recipe, np.random.default_rng((seed, 19)))
        shares = _shares(gate, validation, drawn).cpu().numpy()
    report: JsonObject = {"loss": round(run.parts.get("loss", 0.0), 4)}
    for name, boxed in (("without_crop", False), ("with_crop", True)):
        rows = (drawn.boxed > 0) == boxed
        hard = drawn.local if boxed else drawn.whole
        blended = shares[:, :1] * drawn.whole + shares[:, 1:] * drawn.local
        report[name] = {
            "local_share": round(float(shares[rows, 1].mean()), 4),
            "map_hard": round(_mean_ap(hard[rows], drawn.relevance[rows]), 4),
            "map_blended": round(_mean_ap(blended[rows], drawn.relevance[rows]), 4),
        }
        say(f"gate, {name.replace('_', ' ')}: {report[name]}")
    return report


def draw_lists(material: GateMaterial, recipe: CellRecipe, random: np.random.Generator) -> Lists:
    """Draw queries, every second one cropped, with candidates of which a quarter share the label."""
    counts = np.bincount(material.labels[material.labels >= 0])
    usable = np.flatnonzero((material.labels >= 0) & material.content.any(axis=1))
    usable = usable[counts[material.labels[usable]] > 1]
    rows = random.choice(usable, recipe.gate_queries)
    size = min(recipe.gate_candidates, len(material.labels) - 1)
    whole = np.zeros((len(rows), size), np.float32)
    local = np.ones((len(rows), size), np.float32)
    relevance = np.zeros((len(rows), size), bool)
    boxed = (np.arange(len(rows)) % 2).astype(np.float32)
    bits = 8 * material.codes.shape[1]
    for number, row in enumerate(rows):
        same_label = np.flatnonzero(material.labels == material.labels[row])
        same_label = random.permutation(same_label[same_label != row])[: max(1, size // 4)]
        rest = np.setdiff1d(np.arange(len(material.labels)), np.append(same_label, row))
        chosen = np.sort(np.concatenate([same_label, random.permutation(rest)[: size - len(same_label)]]))
        near = hamming.distances(np.ascontiguousarray(material.codes[chosen]), material.codes[row], "numpy")
        whole[number, : len(chosen)] = near / bits
        template = _template(material, int(row), bool(boxed[number]), random)
        matches = match(material.cells, None, template, chosen, np.inf, "numpy")
        local[number, np.searchsorted(chosen, matches.rows)] = matches.distance
        relevance[number, : len(chosen)] = material.labels[chosen] == material.labels[row]
    return Lists(whole, local, relevance, boxed, rows)


def _template(material: GateMaterial, row: int, cropped: bool, random: np.random.Generator) -> Template:
    """Return the content cells of a random window around one of them, or of the whole picture."""
    content = material.content[row].reshape(GRID, GRID)
    top, left, height, width = 0, 0, GRID, GRID
    if cropped:
        height, width = (int(side) for side in random.integers(*SIDES, 2))
        y, x = np.argwhere(content)[random.integers(int(content.sum()))]
        top = int(np.clip(y - height // 2, 0, GRID - height))
        left = int(np.clip(x - width // 2, 0, GRID - width))
    window = (slice(top, top + height), slice(left, left + width))
    return Template.of(np.ascontiguousarray(material.cells[row][window]), content[window], 1, (1.0,))


def _shares(gate: Gate, material: GateMaterial, lists: Lists) -> torch.Tensor:
    device = gate.linear.weight.device
    standard = torch.from_numpy(material.standard[lists.rows]).to(device)
    modality = None if material.modality is None else torch.from_numpy(material.modality[lists.rows]).to(device)
    shares: torch.Tensor = gate(standard, modality, torch.from_numpy(lists.boxed).to(device))
    return shares


def _mean_ap(distance: F32, relevance: Mask) -> float:
    return float(score(score_counts(distance, relevance)).mean("map_expected"))
