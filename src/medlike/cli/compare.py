"""medlike compare: two bundles on one's own images."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.options import Report, ReportFormat

EXAMPLES = """[b]Example[/b]

medlike compare medlike-hmar-64 my-dino --data manifest.csv
"""


def compare(
    first: Annotated[str, typer.Argument(help="Name or folder of a bundle.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="MANIFEST", help="Labelled images: a manifest.csv or its folder.")
    ],
    format: ReportFormat = Report.table,
) -> None:
    """Compare two bundles on your images, each a query against those of other patients."""
    from medlike.bundle import Bundle
    from medlike.cli import screen
    from medlike.datasets import read_collection
    from medlike.evaluation.comparison import compare_bundles
    from medlike.evaluation.report import plain
    from medlike.evaluation.tables import between, shown

    outcome = compare_bundles(Bundle.load(first), Bundle.load(second), read_collection(data), screen.note)
    if format is Report.json:
        screen.print_json(plain(outcome))
        return
    names = (outcome["first"]["bundle"], outcome["second"]["bundle"])
    head = ("", f"1: {names[0]}", "95 %", f"2: {names[1]}", "95 %", "2 - 1", "95 %", "p")
    rows = [
        (
            f"{row['of']} {row['metric']}",
            shown(row["first"]),
            between(row["first_interval"]),
            shown(row["second"]),
            between(row["second_interval"]),
            shown(row["difference"]),
            between(row["difference_interval"]),
            shown(row["p_holm"]),
        )
        for row in outcome["rows"]
    ]
    screen.print_table(head, rows)
    screen.note(
        f"{outcome['queries']} queries, {outcome['units']} patients or cases; intervals and the paired test (p, by "
        "Holm's method) draw whole patients"
    )
