"""medlike bench: how fast this machine is, beside a peer where there is one."""

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

TEXT = """[b]Examples[/b]

medlike bench text --quick

medlike bench text --format json > text.json
"""

ENCODE = """[b]Examples[/b]

medlike bench encode --quick

medlike bench encode --format json > encode.json
"""

INGEST = """[b]Examples[/b]

medlike bench ingest --quick

medlike bench ingest --format json > ingest.json
"""

STARTUP = """[b]Examples[/b]

medlike bench startup --quick

medlike bench startup --format json > startup.json
"""

MEMORY = """[b]Examples[/b]

medlike bench memory --quick

medlike bench memory --format json > memory.json
"""

GROWTH = """[b]Examples[/b]

medlike bench growth --quick

medlike bench growth --format json > growth.json
"""

TRAIN = """[b]Examples[/b]

medlike bench train --quick

medlike bench train --preset acir --protocol end-to-end --format json
"""

Quick = Annotated[bool, typer.Option("--quick", help="A tenth of the size or less: under two minutes.")]
Images = Annotated[
    int | None,
    typer.Option("--images", min=8, help="How many images, in place of the bench's own number."),
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


def text(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """Search in words over a million images with texts, without the encoder; look up 16-bit codes."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.texts import bench

    _show(bench(quick, images, note), format)


def encode(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """Images a second of the shipped bundles, over those of ResNet-50 in torch on the same cores."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.encode import bench

    _show(bench(quick, images, note), format)


def ingest(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """DICOM files on disk to searchable images, stage by stage; and until a received image is safe."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.ingest import bench

    _show(bench(quick, images, note), format)


def startup(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """How long a fresh process takes: the import, a first and a second search, opening a large archive."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.startup import bench

    _show(bench(quick, images, note), format)


def memory(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """What an opened archive holds in memory, and searching it within 512 MB."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.memory import bench

    _show(bench(quick, images, note), format)


def growth(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
    """Time and bytes from 10,000 to 10 M images: add, search, filter, remove, verify, reopen."""
    from medlike.cli.screen import note
    from medlike.evaluation.speed.growth import bench

    _show(bench(quick, images, note), format)


def train(
    preset: Annotated[str, typer.Option("--preset", help="See `medlike model info`.")] = "compact",
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="end-to-end or frozen.", show_default="both")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A few small batches.")] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Training images a second, and the share of time spent waiting for data."""
    from importlib.util import find_spec

    from medlike.cli.screen import print_json, print_table
    from medlike.errors import MissingExtra, TrainingError

    if find_spec("torch") is None:
        raise MissingExtra("torch", "train")
    from medlike.training.speed import bench_training

    if protocol not in (None, "end-to-end", "frozen"):
        raise TrainingError(f"protocol {protocol!r} is unknown; known: end-to-end, frozen")
    protocols = (protocol,) if protocol else ("frozen", "end-to-end")
    found = [bench_training(preset, name, quick=quick, device=device) for name in protocols]
    if format is Report.json:
        print_json(found)
        return
    rows = [
        (r["preset"], r["protocol"], r["device"], r["batch"], r["images_per_second"], f"{r['waiting']:.2%}")
        for r in found
    ]
    print_table(("preset", "protocol", "device", "batch", "images/s", "waiting"), rows)


def _show(found: "Figures", format: Report) -> None:
    from medlike.cli.screen import print_json

    if format is Report.json:
        print_json(found.as_dict())
        return
    for line in found.printed():
        print(line)
