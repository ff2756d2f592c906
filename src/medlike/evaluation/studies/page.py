"""The page of a study: question, tables, plots, and how to run it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlike.evaluation.report import template, write_json, write_text
from medlike.evaluation.tables import write_csv, write_latex

if TYPE_CHECKING:
    from medlike.evaluation.studies.study import Study, Summary


def write_study_report(study: Study, results: dict[str, Any], summary: Summary, out: Path) -> Path:
    """results.json, report.html, and each table as CSV and LaTeX; returns the page."""
    write_json(out / "results.json", results)
    for number, (title, head, rows) in enumerate(summary.tables, 1):
        write_csv(out / f"table-{number}.csv", head, rows)
        write_latex(out / f"table-{number}.tex", head, rows, title)
    page = template("study.html").render(study=study, results=results, summary=summary)
    return write_text(out / "report.html", page)
