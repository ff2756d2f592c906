"""Results of cells that measure retrieval, and tables made of them: means over seeds, intervals, tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medlike.evaluation import plots
from medlike.evaluation.assessment import assess
from medlike.evaluation.protocols import source_oracle
from medlike.evaluation.representation import Representation
from medlike.evaluation.tables import ORACLE
from medlike.metrics import bootstrap_interval, holm, paired_permutation
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Result

HEAD = (
    "method", "bits", "bytes", "seeds", "mAP", "95 %", "within source", "worst to best ties", "mAP@k", "mAP@k hits",
    "training, min",
)  # fmt: skip


def measure(bench: Bench, query: Representation, gallery: Representation, **facts: Any) -> Result:
    """Headline retrieval of one representation, with the average precision of every query for later tests."""
    found = assess("", "method", bench.arena, query, gallery)
    ap, units = found.within_ap()
    return {
        **{k: v for k, v in found.figures.items() if k != "kind" and not k.startswith("by_source")},
        "ap": found.pooled.ap.tolist(),
        "within_ap": ap.tolist(),
        "within_units": units.tolist(),
        **facts,
    }


def average(results: Sequence[Result], key: str) -> np.ndarray:
    """Per-query values (`ap` or `within_ap`) averaged over seeds: float64 [Q]."""
    return np.mean([np.array(r[key], dtype=np.float64) for r in results], axis=0)


def method_table(bench: Bench, methods: Mapping[str, Sequence[Result]]) -> tuple[str, Sequence[str], list[list[Any]]]:
    """One row a method, seeds averaged, intervals by unit; the source-only oracle last.

    Training is the median over seeds: a machine that was put to sleep has runs of hours.
    """
    rows: list[list[Any]] = []
    for name, results in methods.items():
        pooled = bootstrap_interval(average(results, "ap"), bench.arena.units)
        first = results[0]
        within = average(results, "within_ap") if first["within_ap"] else np.zeros(0)
        rows.append([
            name,
            first["bits"] or first.get("stored", "float"),
            first["bytes_per_image"],
            len(results),
            pooled.mean,
            f"{pooled.low:.3f} to {pooled.high:.3f}",
            float(np.nanmean(within)) if len(within) else None,
            f"{_mean(results, 'map_worst'):.3f} to {_mean(results, 'map_best'):.3f}" if first["bits"] else "",
            _mean(results, "map_at_k"),
            _mean(results, "map_at_k_hits"),
            float(np.median([r["train_seconds"] for r in results])) / 60 if "train_seconds" in first else None,
        ])  # fmt: skip
    oracle = source_oracle(bench.arena)
    interval = bootstrap_interval(oracle.ap, oracle.units)
    rows.append([ORACLE, "", "", "", interval.mean, f"{interval.low:.3f} to {interval.high:.3f}", *[None] * 5])
    return "Retrieval on the headline labels", HEAD, rows


def quality_tables(bench: Bench, methods: Mapping[str, Sequence[Result]], baseline: str) -> list[Any]:
    """The table of methods, each against the baseline where that is among them, and mAP within each source."""
    tables = [method_table(bench, methods)]
    if baseline in methods and len(methods) > 1:
        tables.append(comparison_table(bench, methods, baseline))
    return [*tables, source_table(methods)]


def source_table(methods: Mapping[str, Sequence[Result]]) -> tuple[str, Sequence[str], list[list[Any]]]:
    """mAP within each source, seeds averaged; sources with a single label are left out."""
    found = {
        name: {source: _mean([r["within_source"][source] for r in results], "map_expected") for source in first}
        for name, results in methods.items()
        if (first := results[0]["within_source"])
    }
    sources = sorted({source for by_source in found.values() for source in by_source})
    rows = [[name, *(by_source.get(source) for source in sources)] for name, by_source in found.items()]
    return "mAP within each source", ("method", *sources), rows


def comparison_table(
    bench: Bench, methods: Mapping[str, Sequence[Result]], baseline: str
) -> tuple[str, Sequence[str], list[list[Any]]]:
    """Every method against one, pooled and within source: paired by query, tested by unit, Holm over all rows."""
    rows: list[list[Any]] = []
    reference = methods[baseline]
    for name, results in methods.items():
        if name == baseline:
            continue
        for protocol, key in (("pooled", "ap"), ("within source", "within_ap")):
            if not results[0][key] or not reference[0][key]:
                continue
            units = bench.arena.units if key == "ap" else np.array(results[0]["within_units"])
            mine, theirs = average(results, key), average(reference, key)
            gap = bootstrap_interval(mine - theirs, units)
            rows.append([
                name, protocol, gap.mean, f"{gap.low:+.3f} to {gap.high:+.3f}",
                f"{100 * gap.mean / float(np.nanmean(theirs)):+.1f} %",
                paired_permutation(mine, theirs, units),
            ])  # fmt: skip
    for row, adjusted in zip(rows, holm([row[-1] for row in rows]), strict=True):
        row.append(adjusted)
    head = ("method", "protocol", "difference in mAP", "95 %", "relative", "p", "p (Holm)")
    return f"Compared with {baseline}", head, rows


def method_bars(bench: Bench, methods: Mapping[str, Sequence[Result]]) -> tuple[str, str]:
    """mAP of every method with its interval, seeds averaged, beside the source-only oracle: title and SVG."""
    series: dict[str, dict[str, plots.Bar]] = {"pooled": {}, "within the source, all queries alike": {}}
    for name, results in methods.items():
        protocols = [("ap", bench.arena.units), ("within_ap", np.array(results[0]["within_units"]))]
        for values, (key, units) in zip(series.values(), protocols, strict=True):
            if results[0][key]:
                found = bootstrap_interval(average(results, key), units)
                values[name] = (found.mean, found.low, found.high)
    oracle = source_oracle(bench.arena).scores.mean("map_expected")
    return "mAP", plots.bars(series, list(methods), "mAP", (oracle, "knowing the source only (pooled)"))


def spread(results: Sequence[Result], key: str = "map_expected") -> tuple[float, float]:
    """Mean and standard deviation over seeds."""
    values = np.array([r[key] for r in results], dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0


def grouped(done: Mapping[str, Result], key: str = "method") -> dict[str, list[Result]]:
    """Finished cells by what they measure, in the order in which they were found."""
    found: dict[str, list[Result]] = {}
    for result in done.values():
        if "ap" in result:
            found.setdefault(str(result[key]), []).append(result)
    return found


def _mean(results: Sequence[Result], key: str) -> float:
    return float(np.mean([r[key] for r in results]))
