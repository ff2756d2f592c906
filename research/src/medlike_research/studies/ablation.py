"""Study `ablation`: what each part is worth, one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from medlike_research.studies.bench import Bench
from medlike_research.studies.frozen import RIVAL, Frozen, facts_of, train_cell
from medlike_research.studies.measured import grouped, measure, method_bars, quality_tables
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "What is each part of the method worth? One change at a time against SCH corrected with KAN and DaRF, at the same "
    "bits; the control with H at its mean is the fair one, because H = 1 also changes how hard negatives are pushed."
)
EXPLAINED = (
    "H is how alike the fingerprints of two pictures are, from 0 to 1: SCH pulls pairs of one class together, and "
    "pushes other pairs apart, the harder the higher their H. Settings are named by what differs from the first one; "
    "“full recipe” is how the shipped bundles are trained."
)
BITS = 64
# What RIVAL takes away from the recipe of the shipped bundles.
FULL: Mapping[str, Any] = dict.fromkeys(RIVAL)
WHOLE = "SCH corrected, KAN, DaRF"
# name -> changes of network, of recipe, and side of the fingerprint.
CHANGES: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], int]] = {
    WHOLE: ({}, {}, 16),
    "without DaRF": ({"fusion_outputs": 0}, {}, 16),
    "DaRF with deep queries": ({"query": "deep"}, {}, 16),
    "H shuffled": ({}, {"loss": "sch-shuffled"}, 16),
    "H at its mean": ({}, {"loss": "sch-mean"}, 16),
    "H = 1": ({}, {"loss": "sch-one"}, 16),
    "fingerprint 8x8": ({}, {}, 8),
    "fingerprint 32x32": ({}, {}, 32),
    "alpha 0.25": ({}, {"loss": "sch-alpha-0.25"}, 16),
    "alpha 0.75": ({}, {"loss": "sch-alpha-0.75"}, 16),
    "alpha 1": ({}, {"loss": "sch-alpha-1"}, 16),
    "linear head": ({"hash_kind": "linear"}, {}, 16),
    "MLP head": ({"hash_kind": "mlp"}, {}, 16),
    "KAN without the grid": ({"grid_input": False}, {}, 16),
    "SCH released": ({}, {"loss": "sch-released"}, 16),
    "with FiLM and hierarchy": ({"tap_heads": True, "modality_aware": True}, {}, 16),
    "with hierarchy only": ({"tap_heads": True}, {}, 16),
    "no auxiliary classifier": ({}, {"classification": 0.0}, 16),
    "full recipe": ({}, FULL, 16),
    "full recipe, CSQ in place of SCH": ({}, {**FULL, "loss": "csq"}, 16),
    "full recipe, H shuffled": ({}, {**FULL, "loss": "sch-shuffled"}, 16),
    "full recipe without a hash loss": ({}, {**FULL, "hash": 0.0}, 16),
    "full recipe without preservation": ({}, {**FULL, "preservation": 0.0}, 16),
    "full recipe without contrast": ({}, {**FULL, "contrast": 0.0}, 16),
}


def cells(bench: Bench) -> list[Cell]:
    """Every change with every seed."""
    frozen = Frozen(bench)
    return [
        Cell(f"{_slug(name)}-{seed}", _run(frozen, name, seed), 240, "trained")
        for seed in bench.settings.seeds
        for name in CHANGES
    ]


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """One row a change, and each against the whole."""
    methods = grouped(done)
    ordered = {n: methods[n] for n in CHANGES if n in methods}
    tables = quality_tables(bench, ordered, WHOLE)
    histograms = []
    for name, results in ordered.items():
        if results[0].get("histogram"):
            same, other = results[0]["histogram"]
            low = [sum(row[:6]) / max(sum(row), 1) for row in (same, other)]
            histograms.append([name, *low])
    if histograms:
        head = ("setting", "same class, H below 0.3", "other class, H below 0.3")
        tables.append(("How alike pairs are that the loss saw, share of pairs", head, histograms))
    return Summary(tables, [method_bars(bench, ordered)] if ordered else [], [EXPLAINED])


def _run(frozen: Frozen, name: str, seed: int) -> Callable[[], Result]:
    def run() -> Result:
        network, recipe, side = CHANGES[name]
        changes = {k: v for k, v in {**RIVAL, **recipe}.items() if v is not None}
        loss = changes.pop("loss", "sch")
        outputs = train_cell(frozen, loss, BITS, seed, network, changes, side)
        return measure(frozen.bench, *outputs.codes(), **facts_of(outputs, name, seed))

    return run


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c == "." else "-" for c in name.lower()).strip("-")


STUDY = Study("ablation", QUESTION, cells, summarise)
