"""What a study is: a question, cells that can be run one by one, and a report made from their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medlike_research.studies.bench import Bench

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement. name: unique in its study, a file name. seconds: expected on two cores.

    run: gives the result as plain values for JSON. kind: cells of one kind take about as long as each other.
    of_bundle: whether the bundle under study takes part, where the study has one.
    """

    name: str
    run: Callable[[], Result]
    seconds: float
    kind: str = "cell"
    of_bundle: bool = True


@dataclass(frozen=True)
class Summary:
    """What a report shows. tables: title, head and rows; plots: title and SVG; notes: paragraphs.

    results: what goes to results.json beside the cells.
    """

    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]
    plots: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    results: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """name: as on the command line. question: what it answers. cells: from the bench. summarise: from results.

    summarise takes the results of the cells that are there, by name; it must make do with a subset. of_bundle:
    whether a finished bundle is measured, so that its digest belongs to the configuration. trains: whether cells
    train, so that stem, recipe and seeds belong to it.
    """

    name: str
    question: str
    cells: Callable[[Bench], list[Cell]]
    summarise: Callable[[Bench, Mapping[str, Result]], Summary]
    of_bundle: bool = False
    trains: bool = True
