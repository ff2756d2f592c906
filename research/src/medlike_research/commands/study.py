"""medlike study: answer one of the standing questions, cell by cell, with a report."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import guarded, need
from medlike.cli.settings import options_from_settings
from medlike.errors import QueryError
from medlike_research.studies.settings import BenchSettings

EXAMPLES = """[b]Examples[/b]

medlike study methods --stem efficientnet_lite0.safetensors --out methods --dry-run

medlike study methods --stem efficientnet_lite0.safetensors --out methods --only '*-64-*'

medlike study robustness --bundle medlike-itq-64 --out robustness
"""


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(bits) for bits in text.split(","))
    except ValueError:
        raise QueryError(f"--bits is {text!r}; give numbers with commas, like 32,64") from None


def _seeds(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def _resolved(stem: str) -> str:
    return str(Path(stem).resolve())


@options_from_settings(BenchSettings, bits=_lengths, seeds=_seeds, stem=_resolved)
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="methods, ablation, bits, ood, verdicts, known-item, robustness, published, pretraining, "
            "cross-domain, adaptation, perception, regions, text or speed."
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for cells and report. Run again to continue there.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="MANIFEST",
            help="Collections; headline figures are those of the first. By default the ones in MEDLIKE_DEV.",
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split", metavar="FILE", help="Split file. By default the published one, or a new one for other data."
        ),
    ] = None,
    settings: BenchSettings,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Run only the cells that match, such as '*-64-*'. Repeatable."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", help="Folder for caches that studies share. By default beside --out."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and the estimated hours without running anything.")
    ] = False,
) -> None:
    """Run a study: estimate its hours, run the missing cells, store each result, write report.html."""
    need("report", "scipy")
    from medlike.cli.screen import note, say, table
    from medlike.cli.screen import out as console
    from medlike.evaluation.tables import shown
    from medlike_research.studies import find_study
    from medlike_research.studies.bench import open_bench
    from medlike_research.studies.runner import run_study

    found = find_study(name)
    if not dry_run:
        need("report", "matplotlib")
    bench = open_bench(data or [], split, work or out.parent / "study-cache", settings, note)
    summary = run_study(found, bench, out, only or [], dry_run, note)
    if summary is None:
        return
    for title, head, rows in summary.tables:
        say(title)
        console().print(table(head, [[shown(cell) for cell in row] for row in rows]))
    for text in summary.notes:
        note(text)
    note(f"report: {out / 'report.html'}")


app = typer.Typer(add_completion=False)
app.command("study", epilog=EXAMPLES)(guarded(study))
