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

medlike bundle build --encoder open_clip:biomedclip/ --text-encoder --data manifest.csv --out my-clip
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
        text_encoder: Make a text bundle too.
        text_bits: Length of its code.
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
    text_encoder: Annotated[
        bool,
        Option(
            "For open_clip: make a text bundle at OUT-text too, with the text tower of the same model. The content "
            "vector is then the one that images share with texts."
        ),
    ] = False
    text_bits: Annotated[
        int, Option("Length of the text bundle's code: a multiple of 8 from 8 to 512.", min=8, max=512)
    ] = 16


def require_encoder_file(encoder: str, weights: Path | None) -> None:
    """Check that the files of an encoder are there, before anything that has to be installed for it.

    Raises:
        InputError: The ONNX file or the weights do not exist.
    """
    from medlike.errors import InputError

    kind, _, name = encoder.partition(":")
    for file in ([Path(name).expanduser()] if kind == "onnx" and name else []) + ([weights] if weights else []):
        if not file.is_file():
            raise InputError(f"{file} does not exist; give a file that `medlike bundle build` can read")


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
    from medlike.datasets import read_collection

    require_encoder_file(tower.encoder, tower.weights)
    images = read_collection(data)
    need("train", "torch", "onnx", "onnxscript", "scipy")
    import tempfile

    from medlike.cli.screen import note, print_json, print_table, size
    from medlike.errors import InputError
    from medlike.training.text_bundle import build_text_bundle
    from medlike.training.text_tower import open_text_tower
    from medlike.training.tower_bundle import TowerFit, build_bundle
    from medlike.training.tower_export import open_tower

    beside = out.with_name(f"{out.name}-text")
    text = made_text = None
    if tower.text_encoder:
        if tower.text_bits % 8:
            raise InputError(f"--text-bits {tower.text_bits}; give a multiple of 8")
        if beside.exists() and not replace:
            raise InputError(f"{beside} exists already; choose another --out, or --replace")
        text = open_text_tower(tower.encoder, tower.weights)
    with tempfile.TemporaryDirectory() as folder:
        opened = open_tower(
            tower.encoder, Path(folder), tower.weights, tower.size, tower.outputs, tower.normalise
        )
        note(f"{tower.encoder}: licence {opened.licence}")
        depths = ", ".join(f"{pooling.output} {list(pooling.shape)}" for pooling in opened.poolings)
        note(f"takes {opened.size} x {opened.size} pixels, {opened.channels} channels; gives {depths}")
        settings = TowerFit(bits=bits, joint=tower.text_encoder)
        made = build_bundle(opened, images, out, settings, replace=replace, say=note)
        if text is not None:
            made_text = build_text_bundle(
                text, made, opened, images, beside, tower.text_bits, replace=replace, say=note
            )
    if format is Report.json:
        from medlike.bundle import default

        beside_it = {} if made_text is None else {"text_bundle": _facts(made_text, default())}
        print_json(_facts(made, default()) | beside_it)
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
            *([] if made_text is None else [("text bundle", made_text.path)]),
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
