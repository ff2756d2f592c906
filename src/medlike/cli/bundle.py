"""medlike bundle info, card, build: describe a bundle, or make one from any vision tower."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.exits import need
from medlike.cli.options import Report, ReportFormat
from medlike.cli.settings import options_from_settings
from medlike.option import Option

if TYPE_CHECKING:
    from medlike.bundle import Bundle
    from medlike.types import JsonObject

EXAMPLES = """[b]Examples[/b]

medlike bundle info

medlike bundle info medlike-itq-64 --format json
"""

CARD = """[b]Examples[/b]

medlike bundle card medlike-itq-64

medlike bundle card my-bundle --results report/results.json --out my-bundle/README.md
"""

BUILD = """[b]Example[/b]

medlike bundle build --encoder timm:vit_small_patch14_dinov2.lvd142m --data manifest.csv --out my-dino
"""


@dataclass(frozen=True)
class TowerOptions:
    """A vision tower and how it takes pictures.

    Attributes:
        encoder: onnx:FILE, timm:NAME, hf:NAME or open_clip:NAME.
        weights: A checkpoint.
        size: Side of the pictures, pixels.
        normalise: How pixels are normalised.
        outputs: Names of the outputs to use.
    """

    encoder: Annotated[
        str,
        Option(
            "onnx:FILE, timm:NAME, hf:NAME or open_clip:NAME; the last two take folders.",
            metavar="KIND:NAME",
        ),
    ]
    weights: Annotated[
        Path | None,
        Option(
            "Checkpoint for timm or open_clip, without code.",
            metavar="FILE",
            shown="from the hub's cache",
        ),
    ] = None
    size: Annotated[
        int | None, Option("Side of the pictures, 32 to 1024 pixels.", min=32, max=1024, shown="the tower's")
    ] = None
    normalise: Annotated[
        str | None,
        Option(
            "imagenet, clip, half, unit, bytes, or MEAN/STD as in 0.5,0.5,0.5/0.2,0.2,0.2.",
            shown="as the model states",
        ),
    ] = None
    outputs: Annotated[
        tuple[str, ...],
        Option("Output to pool. Repeatable.", "--output", metavar="NAME", shown="all"),
    ] = ()


@options_from_settings(TowerOptions)
def build(
    tower: TowerOptions,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="MANIFEST", help="Your images: a manifest.csv or its folder."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the new bundle.")],
    bits: Annotated[
        int, typer.Option("--bits", help="Length of the code: a multiple of 8 from 8 to 512.")
    ] = 64,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing bundle at --out.")] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Make a bundle from any vision tower, without training.

    From 500 images on it gives outlier verdicts. Nothing is fetched, and no code that comes with a model is run. Check
    the licence, which is shown first.
    """
    need("train", "torch", "onnx", "onnxscript", "scipy")
    import tempfile

    from medlike.cli.screen import note, print_json, print_table, size
    from medlike.datasets import read_collection
    from medlike.training.tower_bundle import TowerFit, build_bundle
    from medlike.training.tower_export import open_tower

    images = read_collection(data)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_tower(
            tower.encoder, Path(folder), tower.weights, tower.size, tower.outputs, tower.normalise
        )
        note(f"{tower.encoder}: licence {opened.licence}")
        depths = ", ".join(f"{pooling.output} {list(pooling.shape)}" for pooling in opened.poolings)
        note(f"takes {opened.size} x {opened.size} pixels, {opened.channels} channels; gives {depths}")
        made = build_bundle(opened, images, out, TowerFit(bits=bits), replace=replace, say=note)
    if format is Report.json:
        from medlike.bundle import default

        print_json(_facts(made, default()))
        return
    print_table(
        ("", ""),
        [
            ("name", made.name),
            ("path", made.path),
            ("digest", made.digest),
            ("bits", made.bits),
            ("bytes", size(made.bytes)),
            ("smallest cosine with the encoder", made.spec["quality"]["smallest_cosine"]),
            ("equal bits", made.spec["quality"]["equal_bits"]),
            ("outlier verdicts", "yes" if made.spec["outlier"] else "no"),
        ],
    )


def info(
    bundle: Annotated[
        str | None, typer.Argument(help="Name or folder of a bundle. Without it, all shipped bundles.")
    ] = None,
    format: ReportFormat = Report.table,
) -> None:
    """Show a bundle: bits, size, digest, measured quality, terms."""
    from medlike.bundle import Bundle, default, shipped
    from medlike.cli.screen import print_json, print_table, size

    names = [bundle] if bundle else shipped(None)
    bundles = [Bundle.load(name, kind=None) for name in names]
    if format is Report.json:
        facts = [_facts(b, default()) for b in bundles]
        print_json(facts[0] if bundle else facts)
        return
    for loaded in bundles:
        rows = {**_facts(loaded, default()), "bytes": size(loaded.bytes)}
        known = [(name, value) for name, value in rows.items() if value not in (None, [], {})]
        print_table(("", ""), known)


def _facts(bundle: "Bundle", default: str) -> "JsonObject":
    from medlike.bundle import Bundle

    part = bundle.text_part
    return {
        "name": bundle.name,
        "kind": bundle.kind,
        "default": bundle.name == default,
        "preset": bundle.preset,
        "digest": bundle.digest,
        "bits": bundle.bits,
        "content_dim": bundle.content_dim,
        "local_bits": bundle.local_bits,
        "modalities": bundle.modalities,
        "outputs": bundle.outputs,
        "preprocessing": bundle.spec.get("preprocessing"),
        "outlier_verdicts": bundle.kind == "image" and bool(bundle.spec.get("outlier")),
        "text": bundle.spec.get("text"),
        "text_part": None if part is None else Bundle.load(part, kind="text").name,
        "bytes": bundle.bytes,
        "path": str(bundle.path),
        "quality": bundle.spec.get("quality"),
        "training_data": bundle.spec.get("training_data"),
        "terms": bundle.spec.get("terms"),
    }


def card(
    bundle: Annotated[str, typer.Argument(help="Name of a shipped bundle, or the folder of one.")],
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", metavar="FILE", help="Add the figures of a results.json that `medlike evaluate` wrote."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Markdown file to write.", show_default="stdout")
    ] = None,
) -> None:
    """Write the model card of a bundle as Markdown: training data and terms, quality by source, limits."""
    from medlike import strict_json
    from medlike.bundle import Bundle
    from medlike.cli.screen import note
    from medlike.errors import InputError
    from medlike.escaping import printable_lines
    from medlike.files import write_text
    from medlike.training.card import model_card

    figures = None
    if results is not None:
        try:
            figures = strict_json.read(results)
        except ValueError as error:
            raise InputError(f"{results} cannot be read ({error}); give results.json of medlike evaluate") from None
    text = model_card(Bundle.load(bundle, kind=None), figures)
    if out is None:
        print(printable_lines(text), end="")
        return
    write_text(out, printable_lines(text))
    note(f"card: {out}")
