"""medlike model info: show the size of a network."""

from typing import Annotated

import typer

from medlike.cli.exits import need
from medlike.cli.options import Report, ReportFormat

EXAMPLES = """[b]Examples[/b]

medlike model info

medlike model info acir --bits 128 --format json
"""


def info(
    preset: Annotated[str | None, typer.Argument(help="Name of a preset. Without it, all presets.")] = None,
    bits: Annotated[int, typer.Option("--bits", min=8, max=512, help="Length of the code.")] = 64,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Classes of the auxiliary classifier.")] = 16,
    format: ReportFormat = Report.table,
) -> None:
    """Show parameters and multiply-adds (10^9, one image of 224x224) of a network, with and without decoder."""
    need("train", "torch")
    from medlike.cli.screen import out, print_json, table
    from medlike.models.counts import counts
    from medlike.models.presets import PRESETS
    from medlike.types import JsonObject

    names = [preset] if preset else sorted(PRESETS)
    rows: list[JsonObject] = [
        {"preset": name, "bits": bits, "classes": classes, **counts(name, bits, classes)} for name in names
    ]
    if format is Report.json:
        print_json(rows[0] if preset else rows)
        return
    head = ("preset", "bits", "parameters", "with decoder", "GMACs", "with decoder")
    cells = [
        (
            row["preset"],
            row["bits"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['parameters_with_decoder'] / 1e6:.2f} M",
            f"{row['gmacs']:.3f}",
            f"{row['gmacs_with_decoder']:.3f}",
        )
        for row in rows
    ]
    out().print(table(head, cells))
