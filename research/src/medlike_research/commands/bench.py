"""medlike bench: how fast this machine is, beside a peer where there is one."""

from collections.abc import Callable
from importlib import import_module
from typing import Annotated

import typer

from medlike.cli.exits import guarded, need
from medlike.cli.options import Report, ReportFormat

TRAIN = """[b]Examples[/b]

medlike bench train --quick

medlike bench train --preset acir --protocol end-to-end --format json
"""

Quick = Annotated[bool, typer.Option("--quick", help="Run at a tenth of the size or less, in under two minutes.")]
Images = Annotated[
    int | None,
    typer.Option("--images", min=8, help="Number of images, instead of the default of the bench."),
]


# Command -> its module in medlike_research.speed, and what it measures.
BENCHES = {
    "hamming": (
        "hamming",
        "Measure exact search over hash codes against faiss: one query, 64 at once, filters, ties, 16 bits.",
    ),
    "regions": (
        "regions",
        "Measure search for a region against chunked numpy: one and eight orientations, three scales.",
    ),
    "text": (
        "texts",
        "Measure search by text over a million images, without the encoder, and the look-up of 16-bit codes.",
    ),
    "encode": (
        "encode",
        "Measure images per second of the shipped bundles against ResNet-50 in torch on the same cores.",
    ),
    "ingest": (
        "ingest",
        "Measure indexing of DICOM files stage by stage, and the time until a received image is safe.",
    ),
    "startup": (
        "startup",
        "Measure a fresh process: the import, a first and a second search, opening a large archive.",
    ),
    "memory": ("memory", "Measure the memory of an open archive, and search it within 512 MB."),
    "fit": ("fit", "Measure fitting codes to an archive, and recoding its images: seconds for 10 M of them."),
    "growth": (
        "growth",
        "Measure time and bytes from 10,000 to 10 M images: add, search, filter, remove, verify, reopen.",
    ),
    "service": (
        "service",
        "Measure the HTTP API over a million images: start, searches of 20 users, throughput, uploads, thumbnails.",
    ),
}


def examples(name: str) -> str:
    """Return the examples at the end of a bench's help."""
    second = "--images 200000" if name == "regions" else f"--format json > {name}.json"
    return f"[b]Examples[/b]\n\nmedlike bench {name} --quick\n\nmedlike bench {name} {second}\n"


def command(name: str) -> Callable[..., None]:
    """Return the command of a bench of BENCHES, with its help."""
    module, about = BENCHES[name]

    def run(quick: Quick = False, images: Images = None, format: ReportFormat = Report.table) -> None:
        from medlike.cli.screen import note, print_json, say

        found = import_module(f"medlike_research.speed.{module}").bench(quick, images, note)
        if format is Report.json:
            print_json(found.as_dict())
            return
        for line in found.printed():
            say(line)

    run.__name__, run.__doc__ = name, about
    return run


def train(
    preset: Annotated[str, typer.Option("--preset", help="See `medlike model info`.")] = "compact",
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="end-to-end or frozen.", show_default="both")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Run a few small batches.")] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Measure training images per second and the share of time spent waiting for data."""
    from medlike.cli.screen import print_json, print_table
    from medlike.errors import TrainingError

    need("train", "torch")
    from medlike_research.speed.training import bench_training

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


app = typer.Typer(add_completion=False, no_args_is_help=True, help="Measure speed against a peer in the same run.")
for _name in BENCHES:
    app.command(_name, epilog=examples(_name))(guarded(command(_name)))
app.command("train", epilog=TRAIN)(guarded(train))
