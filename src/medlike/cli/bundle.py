"""medlike bundle info: what a bundle is."""

from typing import Annotated

import typer

from medlike.cli.options import Report, ReportFormat

EXAMPLES = """[b]Examples[/b]

medlike bundle info

medlike bundle info medlike-itq-64 --format json
"""


def info(
    bundle: Annotated[
        str | None, typer.Argument(help="A shipped bundle's name, or a folder; none lists those shipped.")
    ] = None,
    format: ReportFormat = Report.table,
) -> None:
    """What a bundle is: bits, size, digest, measured quality, terms. Without a name: those that ship."""
    from medlike.bundle import Bundle, default, shipped
    from medlike.cli.screen import out, print_json, size, table

    names = [bundle] if bundle else shipped()
    bundles = [Bundle.load(name) for name in names]
    if format is Report.json:
        facts = [_facts(b, default()) for b in bundles]
        print_json(facts[0] if bundle else facts)
        return
    for loaded in bundles:
        rows = {**_facts(loaded, default()), "bytes": size(loaded.bytes)}
        out().print(table(("", ""), [(k, v) for k, v in rows.items() if v not in (None, [], {})], head=False))


def _facts(bundle, default: str) -> dict:  # type: ignore[no-untyped-def,type-arg]
    return {
        "name": bundle.name,
        "default": bundle.name == default,
        "preset": bundle.preset,
        "digest": bundle.digest,
        "bits": bundle.bits,
        "content_dim": bundle.content_dim,
        "local_bits": bundle.local_bits,
        "modalities": bundle.modalities,
        "outputs": bundle.outputs,
        "bytes": bundle.bytes,
        "path": str(bundle.path),
        "quality": bundle.spec.get("quality"),
        "training_data": bundle.spec.get("training_data"),
        "terms": bundle.spec.get("terms"),
    }
