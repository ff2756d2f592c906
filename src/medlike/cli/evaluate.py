"""medlike evaluate: measure bundles on a collection, or codes in plain arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import need
from medlike.cli.options import Report, ReportFormat
from medlike.cli.settings import options_from_settings
from medlike.errors import InputError
from medlike.evaluation.settings import BUNDLES, EvaluationSettings
from medlike.option import Option

EXAMPLES = """[b]Examples[/b]

medlike evaluate --bundle medlike-itq-64 --data manifest.csv --out report

medlike evaluate --codes gallery.npy --query-codes query.npy --labels gl.npy --query-labels ql.npy --format
json
"""
_ARRAYS = "Plain arrays"


def _array(help: str) -> Option:
    return Option(help, metavar="NPY", panel=_ARRAYS)


@dataclass(frozen=True)
class BundleOptions:
    """Bundles and the collection to measure them on.

    Attributes:
        bundle: Names or folders of bundles; the first is the baseline.
        data: The collection.
        split: A split file.
        sources: A CSV file with facts about each source.
        draw_all: If true, the report shows every image, whatever its licence.
    """

    bundle: Annotated[
        tuple[str, ...],
        Option(
            "Name or folder of a bundle. Repeatable: the others are compared with the first.",
            "--bundle -b",
            metavar="B",
            panel=BUNDLES,
        ),
    ] = ()
    data: Annotated[
        Path | None,
        Option(
            "manifest.csv, its folder, a folder with one subfolder per class, a MedMNIST npz, or another layout that "
            "`train` reads.",
            metavar="MANIFEST",
            panel=BUNDLES,
        ),
    ] = None
    split: Annotated[
        Path | None,
        Option(
            "Split file. By default the one in DIR, which is made if it does not exist.",
            metavar="FILE",
            panel=BUNDLES,
        ),
    ] = None
    sources: Annotated[
        Path | None,
        Option(
            "CSV with facts about each source: apart, origin, caution, licence (see docs/evaluation.md).",
            metavar="FILE",
            panel=BUNDLES,
        ),
    ] = None
    draw_all: Annotated[
        bool,
        Option("Draw every image in the report, not only those whose licence column allows it.", panel=BUNDLES),
    ] = False


@dataclass(frozen=True)
class ArrayOptions:
    """Files of arrays to measure; N gallery images, Q queries.

    Attributes:
        codes: uint8 [N, bits / 8], packed.
        query_codes: uint8 [Q, bits / 8], packed.
        labels: Integers or strings [N].
        query_labels: Integers or strings [Q].
        query_units: Patients or cases [Q], or None.
        units: Patients or cases [N], or None.
    """

    codes: Annotated[Path | None, _array("Gallery codes, packed: uint8 [N, bits / 8].")] = None
    query_codes: Annotated[Path | None, _array("Query codes, packed in the same way.")] = None
    labels: Annotated[Path | None, _array("Gallery labels: integers or strings [N].")] = None
    query_labels: Annotated[Path | None, _array("Query labels.")] = None
    query_units: Annotated[
        Path | None,
        _array("Patient or case of each query, for the intervals; by default each query is a unit of its own."),
    ] = None
    units: Annotated[
        Path | None, _array("Patient or case of each gallery image: a query's ranking leaves out its own.")
    ] = None


@options_from_settings(BundleOptions)
@options_from_settings(EvaluationSettings)
@options_from_settings(ArrayOptions)
def evaluate(
    bundles: BundleOptions,
    settings: EvaluationSettings,
    arrays: ArrayOptions,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for report.html, results.json and tables."),
    ] = None,
    format: ReportFormat = Report.table,
) -> None:
    """Measure retrieval and outlier detection, and check codes for known faults.

    mAP without a suffix is map_expected: over the full list, averaged over all orders of equal distances.
    """
    if out is not None:
        need("report", "matplotlib")
    required = {
        "--codes": arrays.codes,
        "--query-codes": arrays.query_codes,
        "--labels": arrays.labels,
        "--query-labels": arrays.query_labels,
    }
    if any(required.values()):
        if bundles.bundle or bundles.data:
            raise InputError("give either arrays (--codes ...) or bundles (--bundle, --data), not both")
        missing = [name for name, value in required.items() if value is None]
        if missing:
            raise InputError(f"arrays need all four of {', '.join(required)}; missing: {', '.join(missing)}")
        _arrays(arrays, settings.k, out, format)
        return
    if arrays.query_units or arrays.units:
        raise InputError("--query-units and --units belong to --codes; a collection names patients in its `group`")
    if not bundles.bundle or bundles.data is None or out is None:
        raise InputError(
            "give --bundle, --data and --out, or the four arrays --codes, --query-codes, --labels, --query-labels"
        )
    _bundles(bundles, bundles.data, settings, out, format)


def _arrays(arrays: ArrayOptions, k: int, out: Path | None, format: Report) -> None:
    from medlike.cli import screen
    from medlike.evaluation.arrays import evaluate_arrays
    from medlike.evaluation.report import plain, write_arrays_report

    outcome = evaluate_arrays(**vars(arrays), k=k)
    figures = outcome.figures
    if out is not None:
        write_arrays_report(outcome, out)
    if format is Report.json:
        screen.print_json(plain(figures))
        return
    low, high = figures["map_interval"]
    rows = [
        ("mAP (map_expected)", f"{figures['map_expected']:.4f}"),
        (f"  95 % interval by {figures['map_interval_resampled_by']}", f"{low:.4f} to {high:.4f}"),
        ("  worst tie order (map_worst)", f"{figures['map_worst']:.4f}"),
        ("  best tie order (map_best)", f"{figures['map_best']:.4f}"),
        (f"mAP@{k} over min(k, relevant) (map_at_k)", f"{figures['map_at_k']:.4f}"),
        (f"mAP@{k} over hits (map_at_k_hits)", f"{figures['map_at_k_hits']:.4f}"),
        ("nDCG", f"{figures['ndcg']:.4f}"),
        *((f"precision at {n}", f"{figures[f'precision_at_{n}']:.4f}") for n in (1, 5, 10, 50, 100)),
        ("queries", figures["queries"]),
        ("  without a relevant item, left out", figures["queries_without_relevant"]),
        ("gallery", figures["gallery"]),
        ("bits", figures["bits"]),
    ]
    screen.out().print(screen.table(("metric", "value"), rows))
    for alarm in figures["alarms"]:
        screen.note(f"{alarm['name']}: {alarm['message']}")
    if out is not None:
        screen.note(f"report: {out / 'report.html'}")


def _bundles(bundles: BundleOptions, data: Path, settings: EvaluationSettings, out: Path, format: Report) -> None:
    from medlike.cli import screen
    from medlike.datasets import Split, read_collection, read_sources, with_sources
    from medlike.evaluation.bundles import evaluate_bundles
    from medlike.evaluation.report import plain, write_report
    from medlike.evaluation.tables import between, shown

    facts = read_sources(bundles.sources) if bundles.sources else {}
    outcome = evaluate_bundles(
        bundles.bundle,
        with_sources(read_collection(data), facts),
        out,
        None if bundles.split is None else Split.load(bundles.split),
        settings,
        screen.note,
    )
    write_report(outcome, out, bundles.draw_all)
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
