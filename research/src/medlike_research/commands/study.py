"""medlike study: answer one of the standing questions, cell by cell, with a report."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import guarded, need

EXAMPLES = """[b]Examples[/b]

medlike study methods --stem efficientnet_lite0.safetensors --out methods --dry-run

medlike study methods --stem efficientnet_lite0.safetensors --out methods --only '*-64-*'

medlike study robustness --bundle medlike-itq-64 --out robustness
"""


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="methods, ablation, bits, ood, robustness, pretraining, cross-domain, perception, regions, text or "
            "speed."
        ),
    ],
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
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", metavar="B", help="Name or folder of the bundle to study.")
    ] = None,
    stem: Annotated[
        Path | None,
        typer.Option("--stem", metavar="FILE", envvar="MEDLIKE_STEM", help="ImageNet weights, for cells that train."),
    ] = None,
    preset: Annotated[str, typer.Option("--preset", help="Network of the cells that train.")] = "compact",
    bits: Annotated[str, typer.Option("--bits", help="Code lengths, separated by commas.")] = "16,32,64,128",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Runs of every trained cell.")] = 3,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Epochs of trained cells, instead of the recipe's.")
    ] = None,
    folds: Annotated[
        int,
        typer.Option("--folds", min=0, help="cross-domain: groups of sources left out together; 0 for none."),
    ] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="PATTERN", help="Run only the cells that match, such as '*-64-*'. Repeatable."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="DIR", help="Folder for caches that studies share. By default beside --out."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=20,
            help="Use at most this many images per part, to try a study. Cells that train need about 200.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and the estimated hours without running anything.")
    ] = False,
) -> None:
    """Run a study: estimate its hours, run the missing cells, store each result, write report.html."""
    need("report", "scipy")
    from medlike.cli.screen import note, say, table
    from medlike.cli.screen import out as console
    from medlike.errors import QueryError
    from medlike.evaluation.tables import shown
    from medlike_research.studies import find_study
    from medlike_research.studies.bench import BenchSettings, open_bench
    from medlike_research.studies.runner import run_study

    found = find_study(name)
    if not dry_run:
        need("report", "matplotlib")
    try:
        lengths = tuple(int(b) for b in bits.split(","))
    except ValueError:
        raise QueryError(f"--bits is {bits!r}; give numbers with commas, like 32,64") from None
    settings = BenchSettings(
        bundle=bundle,
        stem=None if stem is None else str(stem.resolve()),
        preset=preset,
        bits=lengths,
        seeds=tuple(range(seeds)),
        epochs=epochs,
        device=device,
        limit=limit,
        folds=folds,
    )
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
