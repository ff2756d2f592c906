"""Result tables as CSV and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from medlike.escaping import write_rows
from medlike.types import JsonObject

Rows = Sequence[Sequence[object]]

ORACLE = "source-only oracle"  # a method that recognises the source alone

_ESCAPES = str.maketrans({c: rf"\{c}" for c in "&%_#${}"} | {"\\": r"\textbackslash{}"})


def shown(cell: object) -> str:
    """Return a cell as text: three decimals, four below 0.001, one from 10, none from 100 on; nothing if missing."""
    if _missing(cell):
        return ""
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) and abs(cell) >= 10_000 else str(cell)
    if abs(cell) >= 10:
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.1f}"
    return f"{cell:.4f}" if 0 < abs(cell) < 1e-3 else f"{cell:.3f}"


def write_csv(path: Path, head: Sequence[str], rows: Rows) -> None:
    """Write a table as CSV: numbers in full, nothing for what is missing."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        write_rows(stream, [head, *([None if _missing(cell) else cell for cell in row] for row in rows)])


def write_latex(path: Path, head: Sequence[str], rows: Rows, caption: str) -> None:
    """Write a table for a paper (booktabs): numbers as on the page, a dash for what is missing."""
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        " & ".join(escape(h) for h in head) + r" \\",
        r"\midrule",
        *(" & ".join("--" if _missing(c) else escape(shown(c)) for c in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def escape(text: str) -> str:
    """Return a text with LaTeX's special characters escaped."""
    return text.translate(_ESCAPES)


def method_rows(results: JsonObject) -> tuple[list[str], list[list[object]]]:
    """Return head and rows of the table of methods: one row each, the source-only oracle last."""
    head = [
        "method", "kind", "bits", "bytes", "mAP", "low", "high", "worst ties", "best ties", "mAP@k",
        "mAP@k hits", "within source", "cross source", "train in gallery", "nDCG", "P@10",
    ]  # fmt: skip
    rows: list[list[object]] = []
    for name, f in results["methods"].items():
        low, high = f["map_interval"]
        rows.append([
            name, f["kind"], f["bits"], f["bytes_per_image"], f["map_expected"], low, high, f["map_worst"],
            f["map_best"], f["map_at_k"], f["map_at_k_hits"], f.get("map_within_source"),
            f.get("map_cross_source"), f.get("train_in_gallery", {}).get("map_expected"), f["ndcg"],
            f["precision_at_10"],
        ])  # fmt: skip
    if "source_oracle" in results:
        oracle = results["source_oracle"]
        low, high = oracle["map_interval"]
        rows.append([ORACLE, "oracle", None, None, oracle["map_expected"], low, high, *[None] * 9])
    return head, rows


def part_rows(results: JsonObject, part: str) -> tuple[list[str], list[list[object]]]:
    """Return head and rows of a table of parts: one row each, of every method its mAP and both ends of the interval.

    Args:
        results: What results.json holds.
        part: by_label, by_modality or by_source.
    """
    methods = {name: f for name, f in results["methods"].items() if part in f}
    first: JsonObject = next(iter(methods.values()), {})
    head = [part.removeprefix("by_"), "queries", "units"]
    head += [f"{name}{end}" for name in methods for end in ("", " low", " high")]
    rows = [
        [
            name, first[f"{part}_queries"][name], first[f"{part}_units"][name],
            *(cell for f in methods.values() for cell in (f[part][name], *f[f"{part}_interval"][name])),
        ]
        for name in sorted(first.get(part, {}))
    ]  # fmt: skip
    return head, rows


def part_cells(head: Sequence[str], rows: Rows) -> tuple[list[str], list[list[object]]]:
    """Return a table of parts for a page of paper: a method's mAP and interval in one cell."""
    cells = [[*row[:3], *(_with_interval(*row[n : n + 3]) for n in range(3, len(row), 3))] for row in rows]
    return [*head[:3], *head[3::3]], cells


def between(interval: Sequence[object]) -> str:
    """Return an interval as text, nothing where there is none."""
    low, high = interval
    return "" if _missing(low) or _missing(high) else f"{shown(low)} to {shown(high)}"


def _with_interval(mean: object, low: object, high: object) -> str:
    interval = between((low, high))
    return f"{shown(mean)} ({interval})" if interval else shown(mean)


def _missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))

