"""The page of a study: question, tables, plots, and how to run it again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medlike.evaluation.report import template, write_json
from medlike.evaluation.tables import write_csv, write_latex
from medlike.files import write_text

if TYPE_CHECKING:
    from medlike_research.studies.study import Study, Summary


def write_study_report(study: Study, results: dict[str, Any], summary: Summary, out: Path) -> Path:
    """results.json, report.html, and each table as CSV and LaTeX; returns the page."""
    write_json(out / "results.json", results)
    for number, (title, head, rows) in enumerate(summary.tables, 1):
        write_csv(out / f"table-{number}.csv", head, rows)
        write_latex(out / f"table-{number}.tex", head, rows, title)
    page = template("study.html").render(
        study=study,
        results=results,
        summary=summary,
        reading=reading([head for _, head, _ in summary.tables]),
        command=command(results),
        facts=facts(results),
    )
    return write_text(out / "report.html", page)


def reading(heads: Sequence[Sequence[str]]) -> str:
    """How intervals and p-values of tables with these heads are to be read; nothing where they have none."""
    said = []
    if any("95 %" in head for head in heads):
        said.append("Intervals are 95 % and resample patients (split units), not images.")
    if any("p (Holm)" in head for head in heads):
        said.append("p is a paired permutation test over units, corrected after Holm over the rows of its table.")
    return " ".join(said)


def command(results: dict[str, Any]) -> str:
    """The command that makes a study's results again, from its configuration."""
    settings = results["configuration"]["settings"]
    names = ["bundle", "preset", "stem", "epochs", "limit", "folds"]
    given = [f"--{name} {settings[name]}" for name in names if settings.get(name) not in (None, *_USUAL.get(name, ()))]
    if settings.get("stem"):
        given += [f"--bits {','.join(map(str, settings['bits']))}", f"--seeds {len(settings['seeds'])}"]
    return " ".join([f"medlike study {results['study']} --out DIR", *given])


def facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What the figures rest on: data, split, models, program and machine, for a table."""
    configuration, machine = results["configuration"], results["machine"]
    settings, bundle = configuration["settings"], configuration.get("bundle")
    found = [
        ("data", f"{configuration['data']}, {configuration['images']:,} images, {len(configuration['labels'])} labels"),
        ("split", f"{configuration['split']['name']}, digest {configuration['split']['digest']}"),
    ]
    if bundle:
        found.append(("bundle", f"{bundle['name']}, digest {bundle['digest']}"))
    if settings.get("stem"):
        found.append(("stem", f"{settings['stem']}, sha256 {configuration['stem_sha256']}"))
        epochs = settings["epochs"] or "the recipe's"
        lengths, seeds = (", ".join(map(str, settings[name])) for name in ("bits", "seeds"))
        preset = f"preset {settings['preset']}, " if "preset" in settings else ""
        found.append(("training", f"{preset}bits {lengths}, seeds {seeds}, epochs: {epochs}"))
    python = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "accelerator") if machine.get(name))
    return [
        *found,
        ("program", f"medlike {results['code']}"),
        ("machine", f"{machine['system']}, {machine['cores']} cores, {python}"),
    ]


_USUAL: dict[str, tuple[Any, ...]] = {"preset": ("compact",), "folds": (3,)}
