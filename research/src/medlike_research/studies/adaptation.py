"""Study `adaptation`: codes fitted to an archive against trained ones, and the order of the answer.

A network is trained without a fold of sources, as in `cross-domain`. The archive then holds known and unknown images
together, and what is fitted is fitted to its stored content vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medlike.archive.intake.fitting import DAMPING, DIRECTIONS, KNOWING_DIRECTIONS, POWER, WEIGHTS
from medlike.codes.fit import Fit, learned
from medlike.datasets.labels import apart_sources
from medlike.evaluation.protocols import Arena, sources_to_leave_out
from medlike.inference.encoding import quantised, unit_length
from medlike.metrics import bootstrap_interval, holm, paired_permutation, score, score_counts
from medlike.types import F32, F64, I8, I64
from medlike_research.studies.bench import Bench
from medlike_research.studies.folds import (
    FoldFeatures,
    collection,
    deal_sources,
    fold_features,
    scanners_left_out,
)
from medlike_research.studies.nuisance import factor_of
from medlike_research.studies.search_orders import Distances, cosine, hamming, neighbours, shortlist, tied
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Should codes belong to the archive? Codes fitted to the content vectors of an archive that holds sources the "
    "network never saw, against its trained codes; and the order of the answer: codes alone, a shortlist in the order "
    "of content, all vectors, or neighbours of neighbours."
)
BITS = 64
EVERYTHING, STRANGE, ALONE, WITHIN = "everything", "unknown queries", "unknown alone", "within"
PROTOCOLS = {
    STRANGE: "queries of unknown sources, whole gallery",
    EVERYTHING: "all queries, whole gallery",
    ALONE: "unknown sources alone",
    WITHIN: "within each unknown source, mean over sources",
}
METRICS = {"mAP": "map_expected", "P@1": "precision_at_1", "P@10": "precision_at_10"}
UNTOUCHED, TRAINED, FORMER = "untouched stem, exact", "trained codes", "trained codes, ties by content"
CONTENT = "content vectors, exact"
FITTED, FROM_TRAIN = f"fitted codes, {BITS} bits", f"the same fit from the train part, {BITS} bits"
ORDERS = {order: f"fitted, {order}" for order in ("shortlist", "exact", "neighbours")}
DEFAULT = ORDERS["neighbours"]
BLIND = "fitted, neighbours, nuisance not known"
NO_SCANNER = "without"  # begins the names of folds that leave out a kind of scanner
_SECONDS = 1200.0


def cells(bench: Bench) -> list[Cell]:
    """One cell a fold and seed, and one a kind of scanner for the first seed; none with fewer than two folds."""
    if bench.settings.folds < 2:
        return []
    dealt = [(f"fold-{number}", away) for number, away in enumerate(deal_sources(bench.wide, bench.settings.folds))]
    scanners = [(f"{NO_SCANNER}-{kind}", away) for kind, away in scanners_left_out(bench.wide).items()]
    return [
        Cell(f"{name}-seed-{seed}", _run(bench, name, away, seed), _SECONDS, "fold", of_bundle=False)
        for turn, seed in enumerate(bench.settings.seeds)
        for name, away in (dealt if turn else dealt + scanners)
    ]


def _run(bench: Bench, fold: str, away: frozenset[str], seed: int) -> Callable[[], Result]:
    def run() -> Result:
        held = _Held.of(bench, fold_features(bench, away, seed), away)
        measured: dict[str, dict[str, Result]] = {}
        for name, distances in methods(held).items():
            bench.say(f"{fold}, seed {seed}: {name}")
            for protocol, found in _measure(held, distances).items():
                measured.setdefault(protocol, {})[name] = found
        known = away - apart_sources(collection(bench))
        return {"fold": fold, "seed": seed, "left_out": sorted(known), "protocols": measured}

    return run


@dataclass(frozen=True)
class _Held:
    """An archive of known and unknown images, and the queries.

    content, own: content vectors of the judged images and of those trained on. asked, strange, found: which judged
    images are queries, of an unknown source, in the gallery. within: unknown sources with something to tell apart.
    """

    fold: FoldFeatures
    content: I8
    own: I8
    widths: tuple[int, ...]
    units: I64
    own_units: I64
    asked: np.ndarray
    strange: np.ndarray
    found: np.ndarray
    within: tuple[str, ...]

    @classmethod
    def of(cls, bench: Bench, fold: FoldFeatures, away: frozenset[str]) -> _Held:
        """What a fold's features make of the judged images."""
        judged = fold.judged
        queries = {s.path for s in bench.split.part(judged, "query")}
        known = {s.path for s in bench.split.part(judged, "gallery")}
        asked = np.array([s.path in queries for s in judged])
        strange = np.isin(judged.column("source"), sorted(away))
        found = strange & ~asked | np.array([s.path in known for s in judged])
        return cls(
            fold,
            quantised(fold.features),
            quantised(fold.own),
            fold.widths,
            bench.split.units(judged),
            bench.split.units(fold.train),
            asked,
            strange,
            found,
            tuple(s for s in sources_to_leave_out(judged) if s in away),
        )

    @cached_property
    def plain(self) -> F32:
        """The untouched stem's features at length 1."""
        length = np.linalg.norm(self.fold.plain, axis=1, keepdims=True)
        return (self.fold.plain / np.maximum(length, 1e-12)).astype(np.float32)

    def fit(self, bits: int = BITS, images: int | None = None, **changes: Any) -> Fit:
        """A fit to the gallery, or to so many images of it."""
        rows = np.flatnonzero(self.found)
        if images is not None and images < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, images, replace=False))
        changes = {"nuisance": self.nuisance} | changes
        return _learned(self.content[rows], self.units[rows], self.widths, bits, **changes)

    @cached_property
    def nuisance(self) -> F64:
        """The scatter of altered copies of images of the known sources, seen by the fold's network."""
        before, altered = quantised(self.fold.before), quantised(self.fold.altered)
        return factor_of(before, altered, self.fold.copied.tolist(), self.widths)


def _learned(content: I8, units: I64, widths: tuple[int, ...], bits: int, **changes: Any) -> Fit:
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    directions = DIRECTIONS if changes.get("nuisance") is None else KNOWING_DIRECTIONS
    settings: dict[str, Any] = {"weights": WEIGHTS[: len(widths)], "directions": directions, "power": POWER}
    settings |= {"damping": DAMPING} | changes
    return learned(content, 1.0 / sizes[unit], widths, bits, **settings)


def methods(held: _Held) -> dict[str, Distances]:
    """Return every way to search, by name."""
    fit = held.fit()
    codes, vectors = fit.encode(held.content)
    blind_codes, blind = held.fit(nuisance=None).encode(held.content)
    own = _learned(held.own, held.own_units, held.widths, BITS, nuisance=held.nuisance).encode(held.content)[0]
    content, fitted = unit_length(held.content), unit_length(vectors)
    found: dict[str, Distances] = {
        UNTOUCHED: cosine(held.plain),
        TRAINED: hamming(held.fold.bits),
        FORMER: tied(hamming(held.fold.bits), cosine(content)),
        CONTENT: cosine(content),
        FITTED: hamming(codes),
        FROM_TRAIN: hamming(own),
        ORDERS["shortlist"]: shortlist(hamming(codes), cosine(fitted)),
        ORDERS["exact"]: cosine(fitted),
        ORDERS["neighbours"]: neighbours(shortlist(hamming(codes), cosine(fitted)), vectors, invariant=fit.invariant),
        "fitted, diffusion": neighbours(shortlist(hamming(codes), cosine(fitted)), vectors, "diffusion"),
        BLIND: neighbours(shortlist(hamming(blind_codes), cosine(unit_length(blind))), blind),
        "trained codes, neighbours": neighbours(shortlist(hamming(held.fold.bits), cosine(content)), held.content),
    }
    for bits in (16, 32, 128, 256):
        longer = held.fit(bits).encode(held.content)
        found[f"fitted codes, {bits} bits"] = hamming(longer[0])
    for images in (500, 1000, 2000):
        found[f"fitted to {images} images, {BITS} bits"] = hamming(held.fit(images=images).encode(held.content)[0])
    for weights in (
        (1.0, 1.0, 1.0),
        (1.0, 2.0, 1.0),
        (1.0, 1.0, 2.0),
        (2.0, 1.0, 1.0),
        (0.7, 1.0, 1.0),
        (0.0, 1.0, 0.0),
    ):
        name = ":".join(f"{weight:g}" for weight in weights)
        found |= _both(held, f"blocks {name}", weights=weights)
    for power in (0.25, 0.5, 1.0):
        found |= _both(held, f"power {power:g}", power=power)
    for directions in (48, 64, 96, 256):
        found |= _both(held, f"{directions} directions", directions=directions)
    return found


def _both(held: _Held, name: str, **changes: Any) -> dict[str, Distances]:
    codes, vectors = held.fit(**changes).encode(held.content)
    return {f"{name}: codes": hamming(codes), f"{name}: exact": cosine(unit_length(vectors))}


def _measure(held: _Held, distances: Distances) -> dict[str, Result]:
    """Figures of one way to search, by protocol."""
    sources = held.fold.judged.column("source")
    asked, gallery, strange = np.flatnonzero(held.asked), np.flatnonzero(held.found), np.flatnonzero(held.strange)
    rows = {EVERYTHING: (asked, gallery), ALONE: (strange, strange)}
    rows |= {f"{WITHIN} {s}": (np.flatnonzero(sources == s),) * 2 for s in held.within}
    measured: dict[str, Result] = {}
    for name, (queries, found) in rows.items():
        if not len(queries) or not len(found):
            continue
        arena = Arena(name, held.fold.judged, held.fold.judged, held.units, held.units).rows(queries, found, name)
        values = score(score_counts(distances(queries, found), arena.relevance()), 100).values
        measured[name] = _result(values, arena.units, sources[queries])
        if name == EVERYTHING:
            of_strange = np.isin(queries, strange)
            few = {metric: values[key][of_strange] for metric, key in METRICS.items()}
            measured[STRANGE] = _result(
                {METRICS[metric]: part for metric, part in few.items()},
                arena.units[of_strange],
                sources[queries][of_strange],
            )
    return measured


def _result(values: Mapping[str, F64], units: I64, sources: np.ndarray) -> Result:
    kept = {metric: np.round(values[key], 6).tolist() for metric, key in METRICS.items()}
    return {"values": kept, "units": units.tolist(), "sources": sources.tolist()}


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Every way to search over all folds and seeds, unknown sources first; the worst sources; tests."""
    results = [result for result in done.values() if not _of_scanner(result)]
    harder = [result for result in done.values() if _of_scanner(result)]
    names = list(dict.fromkeys(name for result in done.values() for name in result["protocols"][EVERYTHING]))
    main = [name for name in names if ":" not in name and "images" not in name]
    swept = [name for name in names if name not in main]
    tables = []
    if results:
        asked = _asked_of_all(results, names)
        tables += [
            _table("Ways to search, sources never trained on", main, asked),
            _compared(main, asked),
            _worst(main, results),
        ]
    if harder:
        title = "Ways to search, no image of that kind of scanner ever trained on"
        tables.append(_table(title, main, _asked_of_all(harder, main)))
    if swept and results:
        tables.append(_table("What a fit is made of", [FITTED, ORDERS["exact"], *swept], asked, intervals=False))
    seeds = sorted({int(result["seed"]) for result in results})
    left = "; ".join(
        f"{result['fold']}: {', '.join(result['left_out'])}"
        for result in [*results, *harder]
        if result["seed"] == min(int(r["seed"]) for r in done.values())
    )
    notes = [
        f"Left out of training and of the train part's fit: {left}.",
        f"Seeds of the folds of sources: {', '.join(map(str, seeds))}; a kind of scanner was left out once.",
        "Fits are made of the gallery's own vectors, without labels, except where the train part is named; the gallery "
        "holds the gallery part of the known sources and all images of the unknown ones that are no queries.",
    ]
    return Summary(tables, [], notes)


def _of_scanner(result: Result) -> bool:
    return str(result["fold"]).startswith(NO_SCANNER)


def _asked_of_all(results: Sequence[Result], names: Sequence[str]) -> dict[str, dict[str, _Asked]]:
    return {name: {protocol: _asked(results, protocol, name) for protocol in PROTOCOLS} for name in names}


_Asked = tuple[dict[str, F64], I64]


def _asked(results: Sequence[Result], protocol: str, method: str) -> _Asked:
    """Values of all queries by metric, seeds averaged, and their units. Within sources, every source counts alike."""
    by_fold: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        for name, found in result["protocols"].items():
            if method in found and (name == protocol or (protocol == WITHIN and name.startswith(f"{WITHIN} "))):
                by_fold.setdefault((str(result["fold"]), name), []).append(found[method])
    values: dict[str, list[F64]] = {metric: [] for metric in METRICS}
    units = []
    for found in by_fold.values():
        for metric in METRICS:
            mean = np.mean([np.array(each["values"][metric], np.float64) for each in found], axis=0)
            if protocol == WITHIN:
                mean = mean / max(int((~np.isnan(mean)).sum()), 1)
            values[metric].append(mean)
        units.append(np.array(found[0]["units"], np.int64))
    if not units:
        return {metric: np.empty(0) for metric in METRICS}, np.empty(0, np.int64)
    joined = {metric: np.concatenate(parts) for metric, parts in values.items()}
    if protocol == WITHIN:
        joined = {m: v * (~np.isnan(v)).sum() / len(by_fold) for m, v in joined.items()}
    return joined, np.concatenate(units)


def _table(
    title: str, names: Sequence[str], asked: Mapping[str, Mapping[str, _Asked]], intervals: bool = True
) -> tuple[str, Any, Any]:
    head = ["method"]
    for text in PROTOCOLS.values():
        head += [f"{text}: mAP", *(["95 %"] if intervals else []), f"{text}: P@1", f"{text}: P@10"]
    rows = []
    for name in names:
        row: list[Any] = [name]
        for protocol in PROTOCOLS:
            values, units = asked[name][protocol]
            row.append(float(np.nanmean(values["mAP"])))
            if intervals:
                interval = bootstrap_interval(values["mAP"], units)
                row.append(f"{interval.low:.3f} to {interval.high:.3f}")
            row += [float(np.nanmean(values[metric])) for metric in ("P@1", "P@10")]
        rows.append(row)
    return title, head, rows


def _compared(names: Sequence[str], asked: Mapping[str, Mapping[str, _Asked]]) -> tuple[str, Any, Any]:
    """Every way against the default, paired by query, tested by unit, Holm over all rows."""
    rows: list[list[Any]] = []
    for name in names:
        for protocol, text in PROTOCOLS.items():
            if name == DEFAULT:
                continue
            (mine, units), (base, _) = asked[name][protocol], asked[DEFAULT][protocol]
            gap = mine["mAP"] - base["mAP"]
            interval = bootstrap_interval(gap, units)
            p = paired_permutation(mine["mAP"], base["mAP"], units)
            rows.append([name, text, interval.mean, f"{interval.low:+.3f} to {interval.high:+.3f}", p])
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    return f"Compared with {DEFAULT}", ("method", "protocol", "difference in mAP", "95 %", "p", "p (Holm)"), rows


def _worst(names: Sequence[str], results: Sequence[Result]) -> tuple[str, Any, Any]:
    """mAP of the queries of each unknown source against the whole gallery, a row a source, seeds averaged."""
    by_source: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for name in names:
            found = result["protocols"][STRANGE].get(name)
            if found is None:
                continue
            values, sources = np.array(found["values"]["mAP"], np.float64), np.array(found["sources"])
            for source in np.unique(sources):
                part = values[sources == source]
                if not np.isnan(part).all():
                    by_source.setdefault(str(source), {}).setdefault(name, []).append(float(np.nanmean(part)))
    rows: list[list[Any]] = [
        [source, *(float(np.mean(means[name])) if name in means else None for name in names)]
        for source, means in sorted(by_source.items())
    ]
    rows.sort(key=lambda row: row[1 + list(names).index(DEFAULT)] or 0.0)
    return "mAP of queries of each unknown source, whole gallery, worst first", ("source", *names), rows


STUDY = Study("adaptation", QUESTION, cells, summarise)
