"""Study `cross-domain`: sources never trained on, and query and gallery from different sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.datasets import Dataset
from medlike.datasets.labels import apart_sources, kin_of
from medlike.evaluation import floors
from medlike.evaluation.protocols import across_sources, everything_arena, pooled, sources_to_leave_out
from medlike.evaluation.representation import Representation
from medlike.metrics import bootstrap_interval, holm, paired_permutation
from medlike_research.studies.bench import Bench
from medlike_research.studies.fold_tables import fold_summary
from medlike_research.studies.folds import fold_cells, summary_of
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Do codes work on sources they were not trained on? Sources (with related ones) are left out of everything that is "
    "trained or fitted and then searched; and query and gallery are taken from different sources of a class."
)
BITS = 64


def cells(bench: Bench) -> list[Cell]:
    """Cross-source once, fits on the bundle's features without each source, trainings without a fold of sources."""
    found = [Cell("across", lambda: _across(bench), 400, "encode")]
    for source in _sources(bench):
        found.append(Cell(f"without-{source}", _without(bench, source), 30, "fit"))
    return found + fold_cells(bench)


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Sources never trained on (folds); query and gallery from different sources; fits on the bundle's features."""
    tables: list[Any] = []
    drawn: list[tuple[str, str]] = []
    notes: list[str] = []
    folds = [result for result in done.values() if "fold" in result]
    if folds:
        found = fold_summary(folds)
        tables, drawn, notes = list(found.tables), list(found.plots), list(found.notes)
    if "across" in done:
        across = done["across"]["across"]
        tables += [*_across_tables(across), *_tests(across, "different sources of a class")]
    by_method: dict[str, dict[str, Result]] = {}
    for result in done.values():
        for method, part in result.get("methods", {}).items():
            by_method.setdefault(method, {})[result["source"]] = part
    if by_method:
        tables += [_within_table(bench, by_method), *_tests(by_method, "within each source")]
        notes.append(
            f"Bundle {bench.bundle.name}: its codes and features are those it was shipped with, so they may have been "
            "trained on the source; what is fitted on them here (rotation, projection, discriminant) never saw it. "
            "Hands: both sources go back to one collection."
        )
    return Summary(tables, drawn, notes)


def _within_table(bench: Bench, by_method: Mapping[str, Mapping[str, Result]]) -> tuple[str, Any, Any]:
    """A row a source, a column a method, the mean over sources first."""
    methods = list(by_method)
    sources = sorted({s for parts in by_method.values() for s in parts})

    def row(name: str, chosen: list[str]) -> list[Any]:
        means = [[by_method[m][s]["map_expected"] for s in chosen if s in by_method[m]] for m in methods]
        return [name, *(float(np.mean(values)) if values else None for values in means)]

    rows = [row("mean over sources", sources), *(row(s, [s]) for s in sources)]
    return f"mAP within each source, features of {bench.bundle.name}", ("source", *methods), rows


def _across_tables(across: Mapping[str, Mapping[str, Result]]) -> list[Any]:
    """mAP by class with intervals, a row a class, the mean over classes first."""
    methods = list(across)
    classes = sorted({c for found in across.values() for c in found})
    if not classes:
        return []
    rows: list[list[Any]] = [
        ["mean over classes", "", *(f"{np.mean([v['map_expected'] for v in across[m].values()]):.3f}" for m in methods)]
    ]
    for name in classes:
        parts = [across[m][name] for m in methods]
        shown = [f"{p['map_expected']:.3f} ({p['interval'][0]:.3f} to {p['interval'][1]:.3f})" for p in parts]
        rows.append([name, parts[0]["queries"] - parts[0]["without_relevant"], *shown])
    head = ("class", "queries", *(f"{m}, mAP (95 %)" for m in methods))
    return [("Query and gallery from different sources of a class", head, rows)]


def _sources(bench: Bench) -> tuple[str, ...]:
    apart = apart_sources(bench.wide)
    return tuple(s for s in sources_to_leave_out(bench.wide) if s not in apart)


def _fitting(bench: Bench) -> Dataset:
    part = bench.split.part(bench.wide, "train")
    return bench.limited(part.where(lambda s: not s.apart and not s.is_ood and bool(s.label)))


def _without(bench: Bench, source: str) -> Callable[[], Result]:
    def run() -> Result:
        everyone = bench.limited(bench.split.part(bench.wide, "train").where(lambda s: not s.apart and not s.is_ood))
        features = _unit(bench, everyone)
        kin = kin_of(source, bench.wide)
        keep = np.array([s.source not in kin for s in everyone])
        train, labels = features[keep], everyone.column("label")[keep]
        itq = floors.fit_itq(train, _bits(train), sources=everyone.column("source")[keep].tolist())
        own = bench.limited(bench.wide.where(lambda s: s.source == source))
        arena = everything_arena(own, bench.split.units(own))
        encoded = bench.encode(arena.queries)
        asked = _unit(bench, arena.queries)
        methods = {
            f"codes of {bench.bundle.name}": encoded.codes(),
            "its float features": Representation(features=asked),
            f"ITQ without the source, {_bits(train)} bits": Representation(codes=itq(asked)),
            f"random projection, {BITS} bits": Representation(codes=floors.fit_random_projection(train, BITS)(asked)),
            "discriminant without the source": Representation(features=floors.fit_discriminant(train, labels)(asked)),
        }
        return {"source": source, "methods": {name: summary_of(pooled(arena, r, r)) for name, r in methods.items()}}

    return run


def _tests(by_method: Mapping[str, Mapping[str, Result]], where: str) -> list[Any]:
    """The first method against each other one, over the sources or classes that both have, paired by query."""
    names = list(by_method)
    base = names[0]
    rows: list[list[Any]] = []
    for name in names[1:]:
        shared = sorted(set(by_method[base]) & set(by_method[name]))
        if not shared:
            continue
        mine, theirs, units = [], [], []
        for number, source in enumerate(shared):
            a, b = by_method[name][source], by_method[base][source]
            mine.append(np.array(a["ap"], dtype=np.float64))
            theirs.append(np.array(b["ap"], dtype=np.float64))
            units.append(np.array(a["units"]) + number * 10_000_000)
        first, second, unit = np.concatenate(mine), np.concatenate(theirs), np.concatenate(units)
        asked = np.isfinite(first) & np.isfinite(second)  # the others have nothing relevant to find
        interval = bootstrap_interval((first - second)[asked], unit[asked])
        p = paired_permutation(first[asked], second[asked], unit[asked])
        rows.append([name, interval.mean, f"{interval.low:+.3f} to {interval.high:+.3f}", p])
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    head = ("method", "difference in mAP, by query", "95 %", "p", "p (Holm)")
    return [(f"Compared with {base}, {where}", head, rows)] if rows else []


def _across(bench: Bench) -> Result:
    queries, gallery = (
        bench.limited(bench.split.part(bench.wide, part).where(lambda s: not s.is_ood)) for part in ("query", "gallery")
    )
    units = bench.split.units(queries)
    asked, found = bench.encode(queries), bench.encode(gallery)
    fitting = _fitting(bench)
    train = _unit(bench, fitting)
    bits = _bits(train)
    itq = floors.fit_itq(train, bits, sources=fitting.column("source").tolist())
    pairs = {
        f"codes of {bench.bundle.name}": (asked.codes(), found.codes()),
        "its float features": (asked.features(), found.features()),
        f"ITQ of them, {bits} bits": tuple(
            Representation(codes=itq(_unit(bench, data))) for data in (queries, gallery)
        ),
    }
    across = {}
    for name, (q, g) in pairs.items():
        by_class = across_sources(queries, gallery, q, g, units, bench.classes, bench.lenient)
        across[name] = {c: summary_of(r) for c, r in by_class.items()}
    return {"across": across}


def _bits(train: np.ndarray) -> int:
    """The length of rotations: as many bits as the features have dimensions, at most BITS."""
    return min(BITS, min(train.shape) // 8 * 8)


def _unit(bench: Bench, data: Dataset) -> np.ndarray:
    content = bench.encode(data).content.astype(np.float32)
    return np.asarray(content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12))


STUDY = Study("cross-domain", QUESTION, cells, summarise, of_bundle=True)
