"""Study `pretraining`: where the stem starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from medlike_research.studies.bench import Bench
from medlike_research.studies.frozen import STEM_EPOCHS, Frozen, facts_of, train_cell
from medlike_research.studies.measured import grouped, measure, method_bars, quality_tables
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "What is the start worth? The stem begins from photographs (ImageNet), from random numbers, or from "
    "unlabelled images of the collection itself; then all are tuned alike by cross-entropy and get the same heads."
)
BITS = 64
SELF_EPOCHS = 4
STARTS = {"ImageNet": "tuned", "random": "random", "self-supervised": "self"}
UNTUNED = "ImageNet, not tuned"


@dataclass(frozen=True)
class Started(Frozen):
    """A frozen start whose stem is made in another way."""

    start: str = "tuned"

    def stem_file(self) -> Path:
        """Return the file with the weights of the stem, tuned as `start` says."""
        from medlike_research.studies.stem import tune_stem

        if self.start == "tuned":
            return super().stem_file()
        return tune_stem(self, None, STEM_EPOCHS, self.start, SELF_EPOCHS if self.start == "self" else 0)


def cells(bench: Bench) -> list[Cell]:
    """Every start with every seed of the heads; the stem of a start is made once."""
    found = []
    for seed in bench.settings.seeds:
        for name, start in STARTS.items():
            run = _run(Started(bench, tuned=start if start != "tuned" else "ce", start=start), name, seed)
            found.append(Cell(f"{start}-{seed}", run, 900, "stem"))
        found.append(Cell(f"untuned-{seed}", _run(Frozen(bench, "untouched"), UNTUNED, seed), 300, "trained"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """One row a start, each against the ImageNet start."""
    methods = grouped(done)
    return Summary(quality_tables(bench, methods, "ImageNet"), [method_bars(bench, methods)] if methods else [])


def _run(frozen: Frozen, name: str, seed: int) -> Callable[[], Result]:
    def run() -> Result:
        outputs = train_cell(frozen, "sch", BITS, seed)
        return measure(frozen.bench, *outputs.codes(), **facts_of(outputs, name, seed))

    return run


STUDY = Study("pretraining", QUESTION, cells, summarise)
