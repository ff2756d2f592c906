"""Study `cross-domain`: sources never trained on, and query and gallery from different sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medlike.datasets import Dataset
from medlike.datasets.labels import APART, kin_of
from medlike.evaluation import floors
from medlike.evaluation.protocols import across_sources, everything_arena, pooled, sources_to_leave_out
from medlike.evaluation.representation import Representation
from medlike.evaluation.studies.bench import Bench
from medlike.evaluation.studies.study import Cell, Result, Study, Summary
from medlike.metrics import bootstrap_interval, holm, paired_permutation

QUESTION = (
    "Do codes work on sources they were not trained on? One source (and its kin) is left out of everything "
    "that is fitted, then retrieved within; and query and gallery are taken from different sources of a class."
)
BITS = 64


def cells(bench: Bench) -> list[Cell]:
    """Fits on the bundle's features without each source; trained heads where a stem is given; cross-source once."""
    found = [Cell("across", lambda: _across(bench), 400, "encode")]
    for source in _sources(bench):
        found.append(Cell(f"without-{source}", _without(bench, source), 30, "fit"))
        if bench.settings.stem:
            for seed in bench.settings.seeds[:1]:
                found.append(Cell(f"trained-without-{source}-{seed}", _trained(bench, source, seed), 400, "trained"))
    return found


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """mAP within each source that was left out, the mean over sources, paired tests; mAP across sources by class."""
    tables: list[Any] = []
    by_method: dict[str, dict[str, Result]] = {}
    for result in done.values():
        for method, part in result.get("methods", {}).items():
            by_method.setdefault(method, {})[result["source"]] = part
    if by_method:
        sources = sorted({s for parts in by_method.values() for s in parts})
        head = ("method", "mean over sources", *sources)
        rows = []
        for method, parts in by_method.items():
            values = [parts[s]["map_expected"] if s in parts else None for s in sources]
            rows.append([method, float(np.mean([v for v in values if v is not None])), *values])
        tables.append(("mAP within a source that nothing was fitted on", head, rows))
        tables += _tests(by_method)
    if "across" in done:
        r = done["across"]
        classes = sorted({c for m in r["across"].values() for c in m})
        head = ("method", "mean over classes", *classes)
        rows = [[m, float(np.mean(list(v.values()))), *(v.get(c) for c in classes)] for m, v in r["across"].items()]
        tables.append(("mAP with query and gallery from different sources", head, rows))
    notes = [
        f"Bundle {bench.bundle.name}: its features are those it was shipped with; what is fitted here (rotation, "
        "discriminant, heads) never saw the source. Hands: both sources go back to one collection."
    ]
    return Summary(tables, (), notes)


def _sources(bench: Bench) -> tuple[str, ...]:
    return tuple(s for s in sources_to_leave_out(bench.wide) if s not in APART)


def _fitting(bench: Bench, away: frozenset[str]) -> Dataset:
    part = bench.split.part(bench.wide, "train").where(
        lambda s: s.source not in away and s.source not in APART and not s.is_ood and bool(s.label)
    )
    return bench.limited(part)


def _without(bench: Bench, source: str) -> Callable[[], Result]:
    def run() -> Result:
        everyone = bench.limited(
            bench.split.part(bench.wide, "train").where(lambda s: s.source not in APART and not s.is_ood)
        )
        features = _unit(bench, everyone)
        keep = np.array([s.source not in kin_of(source) for s in everyone])
        train, labels = features[keep], everyone.column("label")[keep]
        own = bench.limited(bench.wide.where(lambda s: s.source == source))
        arena = everything_arena(own, bench.split.units(own))
        encoded = bench.encode(arena.queries)
        asked = _unit(bench, arena.queries)
        bits = _bits(train)
        methods = {
            f"codes of {bench.bundle.name}": encoded.codes(),
            "its float features": Representation(features=asked),
            f"ITQ without the source, {bits} bits": Representation(codes=floors.fit_itq(train, bits)(asked)),
            f"random projection, {BITS} bits": Representation(codes=floors.fit_random_projection(train, BITS)(asked)),
            "discriminant without the source": Representation(features=floors.fit_discriminant(train, labels)(asked)),
        }
        return {"source": source, "methods": {name: _measured(arena, r) for name, r in methods.items()}}

    return run


def _trained(bench: Bench, source: str, seed: int) -> Callable[[], Result]:
    """Heads trained without the source on the untouched stem, which saw none of the sources."""

    def run() -> Result:
        from dataclasses import replace

        from medlike.evaluation.studies.frozen import Frozen, train_cell

        joined = replace(bench, data=bench.wide)
        own = bench.limited(bench.wide.where(lambda s: s.source == source))
        arena = everything_arena(own, bench.split.units(own))
        frozen = Frozen(joined, "untouched", kin_of(source))
        outputs = train_cell(frozen, "sch", BITS, seed, judged=(arena.queries, arena.queries))
        codes, _ = outputs.codes()
        features, _ = outputs.features()
        methods = {f"trained without the source, {BITS} bits": codes, "its float features, trained": features}
        return {"source": source, "methods": {name: _measured(arena, r) for name, r in methods.items()}}

    return run


def _measured(arena: Any, represented: Representation) -> Result:
    found = pooled(arena, represented, represented)
    interval = bootstrap_interval(found.ap, found.units)
    return {
        "map_expected": interval.mean,
        "interval": [interval.low, interval.high],
        "queries": found.scores.queries,
        "without_relevant": found.scores.without_relevant,
        "ap": found.ap.tolist(),
        "units": found.units.tolist(),
    }


def _tests(by_method: Mapping[str, Mapping[str, Result]]) -> list[Any]:
    """The first method against each other one, over the sources that both have, paired by query."""
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
        gap = np.concatenate(mine) - np.concatenate(theirs)
        interval = bootstrap_interval(gap, np.concatenate(units))
        p = paired_permutation(np.concatenate(mine), np.concatenate(theirs), np.concatenate(units))
        rows.append([name, interval.mean, f"{interval.low:+.3f} to {interval.high:+.3f}", p])
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    head = ("method", "difference in mAP, by query", "95 %", "p", "p (Holm)")
    return [(f"Compared with {base}", head, rows)] if rows else []


def _across(bench: Bench) -> Result:
    queries, gallery = (
        bench.limited(bench.split.part(bench.wide, part).where(lambda s: not s.is_ood)) for part in ("query", "gallery")
    )
    units = bench.split.units(queries)
    asked, found = bench.encode(queries), bench.encode(gallery)
    train = _unit(bench, _fitting(bench, frozenset()))
    bits = _bits(train)
    itq = floors.fit_itq(train, bits)
    pairs = {
        f"codes of {bench.bundle.name}": (asked.codes(), found.codes()),
        "its float features": (asked.features(), found.features()),
        f"ITQ of them, {bits} bits": tuple(
            Representation(codes=itq(_unit(bench, data))) for data in (queries, gallery)
        ),
    }
    across = {}
    for name, (q, g) in pairs.items():
        by_class = across_sources(queries, gallery, q, g, units)
        across[name] = {c: r.scores.mean("map_expected") for c, r in by_class.items()}
    return {"across": across}


def _bits(train: np.ndarray) -> int:
    """The length of rotations: as many bits as the features have dimensions, at most BITS."""
    return min(BITS, min(train.shape) // 8 * 8)


def _unit(bench: Bench, data: Dataset) -> np.ndarray:
    content = bench.encode(data).content.astype(np.float32)
    return np.asarray(content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12))


STUDY = Study("cross-domain", QUESTION, cells, summarise)
