"""medlike bench: how fast this machine searches, beside a peer measured in the same run."""

from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.options import Report, ReportFormat

if TYPE_CHECKING:
    from medlike.evaluation.speed.timing import Figures

HAMMING = """[b]Examples[/b]

medlike bench hamming --quick

medlike bench hamming --format json > hamming.json
"""

REGIONS = """[b]Examples[/b]

medlike bench regions --quick

medlike bench regions --images 200000
"""

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the size or less: under two minutes.")]
Images = Annotated[
    int | None,
    typer.Option("--images", min=1000, help="How many images, in place of the bench's own number."),
]


def hamming(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """Exact search over hash codes against faiss: one query, 64 at once, filters, ties, 16 bits."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.hamming import bench

    _show(bench(quick, images, note), format)


def regions(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """Search for a region in every image against chunked numpy: one and eight orientations, three scales."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.regions import bench

    _show(bench(quick, images, note), format)


def _show(found: "Figures", format: Report) -> None:
    from medlike.cli.screen import print_json

    if format is Report.json:
        print_json(found.as_dict())
        return
    for line in found.printed():
        print(line)
