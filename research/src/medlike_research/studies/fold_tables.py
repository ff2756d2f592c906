"""What the folds of `cross-domain` say: retrieval of sources never trained on, with intervals, tests and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medlike.evaluation import plots
from medlike.evaluation.tables import ORACLE
from medlike.metrics import bootstrap_interval, holm, paired_permutation
from medlike_research.studies.folds import CODES, FEATURES, ROTATED, UNTOUCHED, UNTOUCHED_ROTATED
from medlike_research.studies.study import Result, Summary

WITHIN, UNKNOWN, EVERYTHING = "within a source", "unknown alone", "everything"
PROTOCOLS = {
    WITHIN: "within each source, mean over sources",
    UNKNOWN: "unknown sources alone",
    EVERYTHING: "everything together",
}
# Average precision of queries, their units, and their weights in the mean: float64, int64, float64 [Q].
EncodedQuery = tuple[np.ndarray, np.ndarray, np.ndarray]


def fold_summary(done: Sequence[Result]) -> Summary:
    """Tables, plots and notes of the folds that are there; seeds averaged, queries of all folds together."""
    by_fold: dict[int, list[Result]] = {}
    for result in done:
        by_fold.setdefault(int(result["fold"]), []).append(result)
    methods = list(dict.fromkeys([*done[0]["bits"], ORACLE]))
    asked = {p: {m: _asked(by_fold, p, m) for m in methods} for p in PROTOCOLS}
    tables = [_overview(by_fold, methods, asked), _by_source(by_fold, methods), _tests(methods, asked)]
    single = sorted(s for rs in by_fold.values() for s in rs[0]["sizes"] if f"within {s}" not in rs[0]["protocols"])
    notes = [*_verdicts(asked), _what(by_fold)]
    if single:
        notes.append(
            f"Within {', '.join(single)} there is nothing to tell apart (a single label, or too few images of two); "
            "their images count among the unknown sources."
        )
    series = {
        text: {m: value for m in methods if (value := _interval(asked[p][m])) is not None}
        for p, text in PROTOCOLS.items()
    }
    drawn = [("mAP of sources never trained on", plots.bars(series, methods, "mAP"))]
    return Summary(tables, drawn, notes)


def _overview(by_fold: Mapping[int, list[Result]], methods: Sequence[str], asked: Any) -> tuple[str, Any, Any]:
    first = next(iter(by_fold.values()))[0]
    head = ["method", "bits", "bytes", "seeds"]
    for text in PROTOCOLS.values():
        head += [text, "95 %"]
    rows = []
    for method in methods:
        known = method in first["bits"]
        row: list[Any] = [
            method,
            (first["bits"][method] or "float") if known else "",
            first["bytes"][method] if known else "",
            min(len(results) for results in by_fold.values()) if method in (CODES, FEATURES, ROTATED) else "",
        ]
        for protocol in PROTOCOLS:
            value = _interval(asked[protocol][method])
            row += [None, ""] if value is None else [value[0], f"{value[1]:.3f} to {value[2]:.3f}"]
        rows.append(row)
    return "Sources never trained on", head, rows


def _by_source(by_fold: Mapping[int, list[Result]], methods: Sequence[str]) -> tuple[str, Any, Any]:
    methods = [m for m in methods if m != ORACLE]
    head = ("source", "fold", "images", "queries", *methods, f"95 % of {CODES}")
    rows: list[list[Any]] = []
    for fold, results in by_fold.items():
        for source, images in results[0]["sizes"].items():
            name = f"within {source}"
            if name not in results[0]["protocols"]:
                rows.append([source, fold, images, 0, *[None] * len(methods), ""])
                continue
            found = results[0]["protocols"][name]
            counted = found[CODES]["queries"] - found[CODES]["without_relevant"]
            means = [float(np.nanmean(_ap(results, name, m))) for m in methods]
            interval = bootstrap_interval(_ap(results, name, CODES), np.array(found[CODES]["units"]))
            rows.append([source, fold, images, counted, *means, f"{interval.low:.3f} to {interval.high:.3f}"])
    rows.sort(key=lambda row: str(row[0]))
    return "mAP within each source, trained and fitted without it", head, rows


def _tests(methods: Sequence[str], asked: Any) -> tuple[str, Any, Any]:
    """The codes against every other method, paired by query, tested by unit, Holm over all rows."""
    rows: list[list[Any]] = []
    for method in methods:
        for protocol, text in PROTOCOLS.items():
            base, other = asked[protocol][CODES], asked[protocol][method]
            if method == CODES or base is None or other is None:
                continue
            weights = base[2]
            mine, theirs = other[0] * weights, base[0] * weights
            gap = bootstrap_interval(mine - theirs, base[1])
            relative = 100 * gap.mean / float(np.nanmean(theirs))
            p = paired_permutation(mine, theirs, base[1])
            rows.append([method, text, gap.mean, f"{gap.low:+.3f} to {gap.high:+.3f}", f"{relative:+.1f} %", p])
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    head = ("method", "protocol", "difference in mAP", "95 %", "relative", "p", "p (Holm)")
    return f"Compared with {CODES}", head, rows


def _verdicts(asked: Any) -> list[str]:
    """What the figures say about bits and features, in sentences made of them."""
    mean = {
        p: {m: value[0] for m, a in found.items() if (value := _interval(a)) is not None} for p, found in asked.items()
    }
    lines = []
    for protocol in (WITHIN, UNKNOWN, EVERYTHING):
        m = mean[protocol]
        if CODES not in m:
            continue
        lines.append(
            f"{PROTOCOLS[protocol].capitalize()}: the codes keep {100 * m[CODES] / m[FEATURES]:.0f} % of the mAP of "
            f"their float features, ITQ on the same features {100 * m[ROTATED] / m[FEATURES]:.0f} %; against the "
            f"untouched stem the features are {100 * (m[FEATURES] / m[UNTOUCHED] - 1):+.0f} % and the codes "
            f"{100 * (m[CODES] / m[UNTOUCHED_ROTATED] - 1):+.0f} % (relative to its floats and to ITQ on them)."
        )
    return lines


def _what(by_fold: Mapping[int, list[Result]]) -> str:
    left = "; ".join(f"fold {n}: {', '.join(rs[0]['left_out'])}" for n, rs in sorted(by_fold.items()))
    sizes = ", ".join(f"{rs[0]['images']} images of {rs[0]['sources']} sources" for _, rs in sorted(by_fold.items()))
    return (
        f"Left out of training, validation and every fit: {left}. Trained on {sizes}. Within a source and among the "
        "unknown sources alone, each of their images asks for the others of its label; in everything together the "
        "query part of all sources asks the gallery part and all other images of the unknown sources. Images of the "
        "query's unit (patient or near-duplicate) never count."
    )


def _asked(by_fold: Mapping[int, list[Result]], protocol: str, method: str) -> EncodedQuery | None:
    """Queries of all folds: average precision over seeds, units, and weights by which every source counts alike."""
    ap, units, groups = [], [], []
    for results in by_fold.values():
        for name, found in results[0]["protocols"].items():
            if method in found and (name == protocol or (protocol == WITHIN and name.startswith("within "))):
                ap.append(_ap(results, name, method))
                units.append(np.array(found[method]["units"], dtype=np.int64))
                groups.append(int((~np.isnan(ap[-1])).sum()))
    if not ap or not sum(groups):
        return None
    even = [sum(groups) / (sum(g > 0 for g in groups) * g) if g else 0.0 for g in groups]
    weights = [np.full(len(a), w if protocol == WITHIN else 1.0) for a, w in zip(ap, even, strict=True)]
    return np.concatenate(ap), np.concatenate(units), np.concatenate(weights)


def _ap(results: Sequence[Result], protocol: str, method: str) -> np.ndarray:
    """Average precision of every query, averaged over seeds: float64 [Q]."""
    return np.mean([np.array(r["protocols"][protocol][method]["ap"], dtype=np.float64) for r in results], axis=0)


def _interval(asked: EncodedQuery | None) -> tuple[float, float, float] | None:
    if asked is None:
        return None
    found = bootstrap_interval(asked[0] * asked[2], asked[1])
    return found.mean, found.low, found.high
