"""medlike bundle info, medlike bundle card: describe a bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.options import Report, ReportFormat

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
        "text": bundle.spec.get("text"),
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
