"""medlike commission: measure a bundle on images of a site before it goes live."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.options import BundleName, Report, ReportFormat
from medlike.escaping import printable_json

if TYPE_CHECKING:
    from medlike.training.commission import Commissioned

EXAMPLES = """[b]Examples[/b]

medlike commission --data site/ --out report

medlike commission --data site.csv --bundle site-bundle --format json
"""


def commission(
    data: Annotated[
        list[Path], typer.Option("--data", metavar="SITE", help="Folder or manifest of about 500 images of your site.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for report.html, results.json and names.csv.")
    ] = None,
    bundle: BundleName = None,
    format: ReportFormat = Report.table,
) -> None:
    """Measure a bundle on unlabelled images of your site: false alarms, studies, near-duplicates, scanners.

    The report holds no pictures and no file names: it says "image 17", and names.csv beside it, which is for you alone,
    says which file that is. Files that cannot be read are listed, and the exit code is then 3.
    """
    from medlike import bundle as bundles
    from medlike.cli.screen import note, print_json, print_table, progress, say
    from medlike.commissioning.commission import commission as judge
    from medlike.commissioning.commission import sentences

    given = bundles.Bundle.load(bundle or bundles.default())
    with progress() as display:
        task = display.add_task("Reading", total=None)
        judged = judge(given, data, progress=lambda count: display.update(task, completed=count))
    report = judged.report
    if out is not None:
        _write(judged, out)
    if format is Report.json:
        print_json(report)
    else:
        print_table(("", ""), sentences(report))
        for line in report["advice"]:
            say(f"- {line}")
    paths = {name: path for name, path, _ in judged.names}
    for row in report["skipped"]:
        note(f"{paths[row['name']]}: {row['reason']}")
    if report["skipped"]:
        raise typer.Exit(REFUSED)


def _write(judged: "Commissioned", out: Path) -> None:
    from medlike.cli.screen import note
    from medlike.commissioning.page import page
    from medlike.datasets.image_names import write_names
    from medlike.files import write_text

    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("results.json", printable_json(judged.report, indent=1) + "\n"),
        ("report.html", page(judged.report)),
    ):
        write_text(out / name, text)
    names = write_names(out, ("name", "path", "frame"), judged.names)
    note(f"report: {out / 'report.html'}; which file each image is, for you alone: {names}")
