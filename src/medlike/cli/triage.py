"""medlike triage: list the outliers in a folder."""

import sys
from typing import Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.options import BundleName, Format, ListFormat
from medlike.escaping import write_rows

EXAMPLES = """[b]Examples[/b]

medlike triage incoming/

medlike triage incoming/ --bundle our-bundle --threshold 0.01 --format csv
"""


def triage(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Folders, files, globs or manifests.")],
    bundle: BundleName = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0,
            max=1,
            help="List images with a p-value of at most this.",
            show_default="the bundle's threshold",
        ),
    ] = None,
    all_images: Annotated[bool, typer.Option("--all", help="List every image, outliers first.")] = False,
    format: ListFormat = Format.table,
) -> None:
    """List images unlike anything the bundle knows, the clearest outliers first: no medical image, or a damaged one.

    No archive takes part. To learn whether an archive holds anything like an image, search it.

    Files that cannot be read are listed too; the exit code is then 3.
    """
    from medlike.bundle import Bundle, default
    from medlike.cli.screen import note, print_json, print_table, progress
    from medlike.commissioning.site import read_site
    from medlike.inference import Encoder

    with Encoder(Bundle.load(bundle or default())) as encoder, progress() as display:
        task = display.add_task("reading", total=None)
        site = read_site(encoder, sources, tick=lambda count: display.update(task, completed=count))
    verdicts = site.encodings.outlier
    assert verdicts is not None
    limit = verdicts.threshold if threshold is None else threshold
    order = sorted(range(len(site)), key=lambda i: (verdicts.p[i], -verdicts.score[i], site.paths[i]))
    rows = [
        {
            "path": site.paths[i],
            "frame": site.frames[i],
            **verdicts[i].verdict(),
            "threshold": limit,
            "is_outlier": bool(verdicts.p[i] <= limit),
        }
        for i in order
        if all_images or verdicts.p[i] <= limit
    ]
    refused = [{"path": path, "reason": reason} for path, reason in site.refused]
    if format is Format.json:
        print_json({"images": len(site), "threshold": limit, "outliers": rows, "refused": refused})
    else:
        head = ("path", "frame", "p", "score", "judged as")
        cells = [
            (row["path"], row["frame"], f"{row['p_value']:.4f}", f"{row['score']:.2f}", row["modality"]) for row in rows
        ]
        if format is Format.csv:
            write_rows(sys.stdout, [head, *cells])
        else:
            print_table(head, cells)
        strange = sum(row["is_outlier"] for row in rows)
        note(f"{strange} of {len(site)} images at p <= {limit:g}")
        for one in refused[:20]:
            note(f"refused {one['path']}: {one['reason']}")
    if refused:
        raise typer.Exit(REFUSED)
