"""medlike evaluate: how good are codes, from bundles on a collection or from plain arrays."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import need
from medlike.cli.options import Report, ReportFormat
from medlike.errors import InputError

EXAMPLES = """[b]Examples[/b]

medlike evaluate --bundle medlike-itq-64 --data manifest.csv --out report

medlike evaluate --codes gallery.npy --query-codes query.npy --labels gl.npy --query-labels ql.npy --format
json
"""
_ARRAYS = "Plain arrays"
_BUNDLES = "Bundles on a collection"


def evaluate(
    bundle: Annotated[
        list[str] | None,
        typer.Option(
            "--bundle",
            "-b",
            metavar="B",
            rich_help_panel=_BUNDLES,
            help="Name or folder of a bundle. Repeatable: the others are compared with the first.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="MANIFEST",
            rich_help_panel=_BUNDLES,
            help="manifest.csv, its folder, a folder with one subfolder per class, a MedMNIST npz, or another layout "
            "that `train` reads.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for report.html, results.json and tables."),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            "--split",
            metavar="FILE",
            rich_help_panel=_BUNDLES,
            help="Split file. By default the one in DIR, which is made if it does not exist.",
        ),
    ] = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            "--sources",
            metavar="FILE",
            rich_help_panel=_BUNDLES,
            help="CSV with facts about each source: apart, origin, caution, licence (see docs/evaluation.md).",
        ),
    ] = None,
    minimum: Annotated[
        int,
        typer.Option("--minimum", min=2, rich_help_panel=_BUNDLES, help="Leave out labels with fewer images."),
    ] = 40,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            rich_help_panel=_BUNDLES,
            help="Use every image as a query against all others, for collections that no bundle was trained on.",
        ),
    ] = False,
    floors: Annotated[
        bool,
        typer.Option(
            "--floors/--no-floors",
            rich_help_panel=_BUNDLES,
            help="Also measure fingerprints, perceptual hash, ITQ and others that need no training.",
        ),
    ] = True,
    codes: Annotated[
        Path | None,
        typer.Option(
            "--codes",
            metavar="NPY",
            rich_help_panel=_ARRAYS,
            help="Gallery codes, packed: uint8 [N, bits / 8].",
        ),
    ] = None,
    query_codes: Annotated[
        Path | None,
        typer.Option(
            "--query-codes", metavar="NPY", rich_help_panel=_ARRAYS, help="Query codes, packed in the same way."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="NPY",
            rich_help_panel=_ARRAYS,
            help="Gallery labels: integers or strings [N].",
        ),
    ] = None,
    query_labels: Annotated[
        Path | None,
        typer.Option("--query-labels", metavar="NPY", rich_help_panel=_ARRAYS, help="Query labels."),
    ] = None,
    query_units: Annotated[
        Path | None,
        typer.Option(
            "--query-units",
            metavar="NPY",
            rich_help_panel=_ARRAYS,
            help="Patient or case of each query, for the intervals; by default each query is a unit of its own.",
        ),
    ] = None,
    units: Annotated[
        Path | None,
        typer.Option(
            "--units",
            metavar="NPY",
            rich_help_panel=_ARRAYS,
            help="Patient or case of each gallery image: a query's ranking leaves out its own.",
        ),
    ] = None,
    draw_all: Annotated[
        bool,
        typer.Option(
            "--draw-all",
            rich_help_panel=_BUNDLES,
            help="Draw every image in the report, not only those whose licence column allows it.",
        ),
    ] = False,
    k: Annotated[int, typer.Option("--k", min=1, help="Cut-off of map_at_k, map_at_k_hits and ndcg_at_k.")] = 100,
    format: ReportFormat = Report.table,
) -> None:
    """Measure retrieval and outlier detection, and check codes for known faults.

    mAP without a suffix is map_expected: over the full list, averaged over all orders of equal distances.
    """
    if out is not None:
        need("report", "matplotlib")
    arrays = {
        "--codes": codes,
        "--query-codes": query_codes,
        "--labels": labels,
        "--query-labels": query_labels,
    }
    if any(arrays.values()):
        if bundle or data:
            raise InputError("give either arrays (--codes ...) or bundles (--bundle, --data), not both")
        missing = [name for name, value in arrays.items() if value is None]
        if missing or not (codes and query_codes and labels and query_labels):
            raise InputError(f"arrays need all four of {', '.join(arrays)}; missing: {', '.join(missing)}")
        _arrays(codes, query_codes, labels, query_labels, query_units, units, k, out, format)
        return
    if query_units or units:
        raise InputError("--query-units and --units belong to --codes; a collection names patients in its `group`")
    if not bundle or data is None or out is None:
        raise InputError(
            "give --bundle, --data and --out, or the four arrays --codes, --query-codes, --labels, --query-labels"
        )
    _bundles(bundle, data, out, split, sources, minimum, everything, floors, draw_all, k, format)


def _arrays(
    codes: Path,
    queries: Path,
    labels: Path,
    wanted: Path,
    query_units: Path | None,
    units: Path | None,
    k: int,
    out: Path | None,
    format: Report,
) -> None:
    from medlike.cli import screen
    from medlike.evaluation.arrays import evaluate_arrays
    from medlike.evaluation.report import plain, write_arrays_report

    outcome = evaluate_arrays(codes, queries, labels, wanted, k, query_units, units)
    found = outcome.figures
    if out is not None:
        write_arrays_report(outcome, out)
    if format is Report.json:
        screen.print_json(plain(found))
        return
    low, high = found["map_interval"]
    rows = [
        ("mAP (map_expected)", f"{found['map_expected']:.4f}"),
        (f"  95 % interval by {found['map_interval_resampled_by']}", f"{low:.4f} to {high:.4f}"),
        ("  worst tie order (map_worst)", f"{found['map_worst']:.4f}"),
        ("  best tie order (map_best)", f"{found['map_best']:.4f}"),
        (f"mAP@{k} over min(k, relevant) (map_at_k)", f"{found['map_at_k']:.4f}"),
        (f"mAP@{k} over hits (map_at_k_hits)", f"{found['map_at_k_hits']:.4f}"),
        ("nDCG", f"{found['ndcg']:.4f}"),
        *((f"precision at {n}", f"{found[f'precision_at_{n}']:.4f}") for n in (1, 5, 10, 50, 100)),
        ("queries", found["queries"]),
        ("  without a relevant item, left out", found["queries_without_relevant"]),
        ("gallery", found["gallery"]),
        ("bits", found["bits"]),
    ]
    screen.out().print(screen.table(("metric", "value"), rows))
    for alarm in found["alarms"]:
        screen.note(f"{alarm['name']}: {alarm['message']}")
    if out is not None:
        screen.note(f"report: {out / 'report.html'}")


def _bundles(
    names: list[str],
    data: Path,
    out: Path,
    split: Path | None,
    sources: Path | None,
    minimum: int,
    everything: bool,
    floors: bool,
    draw_all: bool,
    k: int,
    format: Report,
) -> None:
    from medlike.cli import screen
    from medlike.datasets import Split, read_collection, read_sources, with_sources
    from medlike.evaluation.bundles import Settings, evaluate_bundles
    from medlike.evaluation.report import plain, write_report
    from medlike.evaluation.tables import between, shown

    settings = Settings(k=k, minimum=minimum, everything=everything, floors=floors)
    outcome = evaluate_bundles(
        names,
        with_sources(read_collection(data), read_sources(sources) if sources else {}),
        out,
        None if split is None else Split.load(split),
        settings,
        screen.note,
    )
    write_report(outcome, out, draw_all)
    if format is Report.json:
        screen.print_json(plain(outcome.results))
        return
    head = ("method", "bits", "mAP", "95 %", "within source", "cross source")
    rows = []
    for name, figures in outcome.results["methods"].items():
        rows.append((
            name,
            figures["bits"] or "float",
            shown(figures["map_expected"]),
            between(figures["map_interval"]),
            shown(figures["map_within_source"]),
            shown(figures.get("map_cross_source")),
        ))  # fmt: skip
    oracle = outcome.results["source_oracle"]
    rows.append(("source-only oracle", "", shown(oracle["map_expected"]), "", "", ""))
    screen.out().print(screen.table(head, rows))
    for alarm in outcome.results["alarms"]:
        screen.note(f"{alarm['method']}: {alarm['name']}: {alarm['message']}")
    screen.note(f"report: {out / 'report.html'}")
