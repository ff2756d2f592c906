"""The folder that an evaluation leaves: report.html, results.json, tables as CSV and LaTeX."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medlike.datasets.image_names import write_names
from medlike.escaping import printable_json
from medlike.evaluation import plots
from medlike.evaluation.arrays import METHOD, ArraysOutcome
from medlike.evaluation.bundles import Outcome
from medlike.evaluation.neighbours import confusion, nearest_rows
from medlike.evaluation.outliers import flagged_too_often
from medlike.evaluation.sheets import Sheet, contact_sheets
from medlike.evaluation.tables import between, method_rows, part_cells, part_rows, shown, write_csv, write_latex
from medlike.files import write_text
from medlike.types import Json, JsonObject

if TYPE_CHECKING:
    from jinja2 import Template

# More labels than these can neither be read on a map nor told apart by its shades.
MOST_ON_A_MAP = 60


def write_report(outcome: Outcome, out: Path, draw_all: bool = False) -> Path:
    """Write the report of bundles into a folder, and return the path of the page. Files are replaced whole.

    Args:
        outcome: What was measured.
        out: The folder, made if it does not exist.
        draw_all: Draw every image in contact sheets; by default only those whose terms allow it.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    main, arena = outcome.assessments[0], outcome.arena
    query, gallery = outcome.representations[main.name]
    content = outcome.representations.get(f"{main.name}, float features")
    labels = arena.queries.column("label"), arena.gallery.column("label")
    confused = confusion(query, gallery, labels, (arena.units, arena.gallery_units))
    sheets = contact_sheets(
        arena, main.pooled, lambda row: nearest_rows(arena, query, gallery, row, 8, content), draw_all
    )
    page = _write(outcome.results, main.name, out, confused, sheets)
    write_names(out, ("name", "path"), outcome.names)
    return page


def write_arrays_report(outcome: ArraysOutcome, out: Path) -> Path:
    """Write the report of plain arrays into a folder, in the same files, and return the path of the page.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    confused = None
    if outcome.labels[0].ndim == 1:
        confused = confusion(outcome.query, outcome.gallery, outcome.labels, outcome.units)
    return _write(outcome.results, METHOD, out, confused, [])


def _write(
    results: JsonObject,
    main: str,
    out: Path,
    confused: tuple[list[str], np.ndarray] | None,
    sheets: list[Sheet],
) -> Path:
    """Write all files, and return the path of the page.

    Args:
        results: What results.json holds.
        main: The method that the page is about.
        out: The folder.
        confused: Labels and shares of `confusion`, None for several labels an image.
        sheets: Contact sheets.
    """
    out.mkdir(parents=True, exist_ok=True)
    methods = results["methods"]
    head, rows = method_rows(results)
    write_csv(out / "methods.csv", head, rows)
    caption = f"Retrieval on {results['data']['name']}: mAP is the expectation over tie order, full list."
    write_latex(out / "methods.tex", head, rows, caption)
    parts = [part for part in ("by_label", "by_modality", "by_source") if part in methods[main]]
    for part in parts:
        rows_of_part = part_rows(results, part)
        write_csv(out / f"{part}.csv", *rows_of_part)
        write_latex(out / f"{part}.tex", *part_cells(*rows_of_part), f"mAP {part.replace('_', ' ')}, 95 % intervals.")
    write_json(out / "results.json", results)

    page = template("report.html").render(
        results=results,
        main=main,
        tables=["methods", *parts],
        above={name: flagged_too_often(f["rule"]) for name, f in results["outliers"].items() if "rule" in f},
        precision_recall=plots.precision_recall(methods),
        within_radius=plots.within_radius(methods),
        accuracy_bars=plots.accuracy_bars(methods, results.get("source_oracle", {}).get("map_expected")),
        accuracy_by_bytes=plots.accuracy_by_bytes(methods) if len(methods) > 1 else None,
        outlier_plots={name: plots.outliers(f) for name, f in results["outliers"].items()},
        confusion=plots.confusion_map(*confused) if confused and len(confused[0]) <= MOST_ON_A_MAP else None,
        crowded=confused is not None and len(confused[0]) > MOST_ON_A_MAP,
        sheets=sheets,
    )
    return write_text(out / "report.html", page)


def write_json(path: Path, value: object) -> Path:
    """Write JSON that every reader takes: NaN becomes null. Return the path."""
    return write_text(path, printable_json(plain(value), indent=1, allow_nan=False) + "\n")


def plain(value: Json) -> Json:
    """Return a value as numbers, texts, lists and dictionaries only; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def template(name: str) -> Template:
    """Return a page template by name. Texts are escaped; filters: `three` of numbers, `between` of intervals."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("medlike.evaluation", "templates"), autoescape=True)
    environment.filters["three"] = shown
    environment.filters["between"] = between
    return environment.get_template(name)
