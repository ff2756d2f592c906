"""The stages that HMAR adds: heads and cell weights beside stage 1, the cells' codes, the gate.

Stages: 1 the whole-image network, 2 the cells, 3 the gate. Every stage keeps what it ends with in the folder of the
run, so that a later run can begin at any stage.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from medlike.codes.packing import pack
from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork
from medlike.models.hmar import RegionalNetwork
from medlike.models.networks import record
from medlike.training.cells import CellViews, cell_views
from medlike.training.cells_start import start_cells
from medlike.training.cells_training import CellRecipe, bit_entropy, codes_of, fit_cells
from medlike.training.checkpoints import load_checkpoint, write_checkpoint
from medlike.training.feed import FrozenFeed, served_outputs
from medlike.training.gate import GateMaterial, fit_gate
from medlike.training.material import Material, sampling_weights
from medlike.training.regional_heads import fit_cell_weights, predicted_modalities
from medlike.types import F32, F64, JsonObject, Progress

STAGES = (1, 2, 3)
# Weights that a whole-image network lacks if it was trained without the regional expert.
ADDED = ("film.", "shallow_heads.", "deep_heads.")
SETTINGS_ADDED = (
    "tap_heads",
    "modality_aware",
    "local_bits",
    "cell_strides",
    "cell_hidden",
    "cell_width",
    "cell_linear",
    "weight_width",
)
CHUNK = 256


def stage_file(work: Path, stage: int) -> Path:
    """Return the file in which a regional run keeps the network that a stage ended with."""
    return work / f"stage-{stage}.pt"


def start_from(image: ImageNetwork, run: Path, say: Progress[str]) -> JsonObject:
    """Give a whole-image network the weights of a finished run of the same settings; returns what is kept of it.

    run: the folder of a run, or its checkpoint. Heads and FiLM that the run's network lacks stay as they are, so its
    codes stay what they were, to the bit. TrainingError where there is no finished run, or one of other settings.
    """
    path = _checkpoint_of(run)
    if not path.is_file():
        raise TrainingError(f"there is no run at {run}: give the folder that `medlike train` left beside its bundle")
    checkpoint = load_checkpoint(path)
    best = checkpoint["best"]
    if best["state"] is None:
        raise TrainingError(f"{path} is of a run that has not finished an epoch of codes; let it finish first")
    theirs, ours = (_whole(each) for each in (checkpoint["identity"]["network"], record(image)))
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise TrainingError(
                f"{path} is of a network with {name} {theirs.get(name)}, not {value}; start from a run on the same "
                "data and bits, of the preset's whole-image side"
            )
    mismatch = image.load_state_dict(best["state"], strict=False)
    lacking = [name for name in mismatch.missing_keys if not name.startswith(ADDED)]
    if lacking or mismatch.unexpected_keys:
        raise TrainingError(f"{path} does not fit: {', '.join([*lacking, *mismatch.unexpected_keys][:5])}")
    say(f"whole-image side from {path}, epoch {best['epoch']}, validation mAP {best['map']:.4f}")
    return {"epoch": best["epoch"], "map": best["map"], "history": checkpoint["history"]}


def linear_of_start(run: Path, usual: int) -> int:
    """Return the width of the linear part in a run to start from; the usual one where there is no such run."""
    path = _checkpoint_of(run)
    return int(load_checkpoint(path)["identity"]["network"]["settings"]["linear"]) if path.is_file() else usual


def _checkpoint_of(run: Path) -> Path:
    return run / "checkpoint.pt" if run.is_dir() else run


def fit_regional(
    network: RegionalNetwork,
    recipe: CellRecipe,
    train: Material,
    feed: FrozenFeed,
    validation: Material,
    validation_feed: FrozenFeed,
    work: Path,
    cache: Path,
    *,
    first: int = 1,
    seed: int = 0,
    resume: bool = False,
    say: Progress[str] = lambda line: None,
) -> JsonObject:
    """Train everything after the whole-image network: cell weights, cells, gate; return what is kept of them.

    first: the stage to begin with; what earlier ones ended with is read from `work`.
    """
    if first > 1:
        _read_stage(network, first - 1, work)
    modality, other = (
        # Only an expert that is conditioned on the modality, and its gate, read it.
        None if network.cells.film is None else predicted_modalities(network, each.maps.pooled[0])
        for each in (feed, validation_feed)
    )
    report: JsonObject = {"recipe": asdict(recipe)}
    views = cell_views(network, train.pictures, cache, recipe.cell_copies, seed=seed, say=say)
    if first <= 1:
        fit_cell_weights(network, recipe, train, feed, views, seed, say)
        _keep_stage(network, 1, work)
    validation_views = cell_views(network, validation.pictures, cache, 1, seed=seed, say=say)
    if first <= 2:
        stem = network.stem
        channels = [stem.channels[place] for place in network.cells.places]
        sources = [sample.source for sample in train.dataset]
        if network.cells.direct is not None:
            start_cells(network.cells, channels, views, modality, sources, recipe.cell_whitening, seed)
        weights = sampling_weights(train.dataset, "tempered") * views.content.any(axis=1)
        report["cells"] = fit_cells(
            network,
            recipe,
            views,
            modality,
            weights / weights.sum(),
            validation_views,
            other,
            work,
            seed=seed,
            resume=resume,
            say=say,
        )
        _keep_stage(network, 2, work)
    gate_train = gate_material(network, train, feed, views, modality)
    gate_validation = gate_material(network, validation, validation_feed, validation_views, other)
    entropies = content_entropies(gate_train)
    report["entropy"] = {"mean": float(entropies.mean()), "worst": float(entropies.min())}
    say(f"entropy of the cells' bits over content cells: mean {entropies.mean():.3f}, worst {entropies.min():.3f}")
    report["gate"] = fit_gate(network, recipe, gate_train, gate_validation, seed=seed, say=say)
    _keep_stage(network, 3, work)
    return report


@torch.no_grad()
def gate_material(
    network: RegionalNetwork, part: Material, feed: FrozenFeed, views: CellViews, modality: F32 | None
) -> GateMaterial:
    """Return codes of a part's pictures and cells as they will be served, and the inputs of the gate."""
    outputs = served_outputs(feed, len(part), ("u", "pooled"))
    device = network.cells.mean.device
    standard = network.image.pooling.standardise(torch.from_numpy(outputs["pooled"]).to(device)).cpu().numpy()
    cells = []
    for start in range(0, len(part), CHUNK):
        given = torch.from_numpy(np.array(views.cells[0][start : start + CHUNK])).to(device).float()
        shares = None
        if modality is not None:
            shares = torch.from_numpy(modality[start : start + CHUNK]).to(device)
            shares = shares.repeat_interleave(given.shape[1], dim=0)
        u = codes_of(network.cells, given.flatten(0, 1), shares)
        bits = (u > 0).cpu().numpy().reshape(len(given), -1, network.local_bits)
        words = np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
        cells.append(words.reshape(len(given), 14, 14, -1))
    return GateMaterial(
        standard,
        modality,
        pack(outputs["u"] > 0),
        np.concatenate(cells),
        views.content,
        part.labels[list(part.labels)[-1]],
    )


def content_entropies(material: GateMaterial) -> F64:
    """Return the entropy of each bit of the cells over content cells: float64 [L], in bits."""
    chosen = material.cells.reshape(len(material.cells), 196, -1)[material.content]
    return bit_entropy(np.unpackbits(chosen.astype("<u8").view(np.uint8), axis=-1, bitorder="little").astype(bool))


def require_stage(work: Path, first: int) -> None:
    """Raise TrainingError where a run cannot begin at a stage, because the one before was not finished."""
    if first not in STAGES:
        raise TrainingError(f"stage {first} is unknown; known: {', '.join(map(str, STAGES))}")
    if first > 1 and not stage_file(work, first - 1).is_file():
        raise TrainingError(
            f"stage {first} goes on from {stage_file(work, first - 1)}, which is not there; run stage {first - 1} first"
        )


def _keep_stage(network: RegionalNetwork, stage: int, work: Path) -> None:
    identity = {"network": record(network), "stage": stage}
    write_checkpoint(stage_file(work, stage), {"identity": identity, "state": network.state_dict()})


def _read_stage(network: RegionalNetwork, stage: int, work: Path) -> None:
    path = stage_file(work, stage)
    checkpoint = load_checkpoint(path)
    try:
        network.load_state_dict(checkpoint["state"])
    except (KeyError, RuntimeError):
        raise TrainingError(f"{path} is of a network with other settings; run stage {stage} again") from None


def _whole(network: JsonObject) -> JsonObject:
    """Return the part of a `record` that decides the weights of the whole-image network."""
    settings = {name: value for name, value in network["settings"].items() if name not in SETTINGS_ADDED}
    # Through JSON, which turns tuples into lists, because the checkpoint may have been through it.
    whole: JsonObject = json.loads(json.dumps({"bits": network["bits"], "classes": network["classes"], **settings}))
    return whole
