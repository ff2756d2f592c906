"""medlike calibrate: fit a bundle's outlier verdicts to images of a site."""

from pathlib import Path
from typing import Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.options import BundleName, Report, ReportFormat

EXAMPLES = """[b]Examples[/b]

medlike calibrate --bundle medlike-itq-64 --data scans/ --out our-bundle

medlike calibrate --data manifest.csv --out our-bundle --format json
"""


def calibrate(
    data: Annotated[
        list[str], typer.Option("--data", help="Images of your site: a folder, file or manifest. Repeatable.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    bundle: BundleName = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an existing bundle at --out.")] = False,
    format: ReportFormat = Report.table,
) -> None:
    """Fit a bundle's outlier verdicts to images of your site. No training, no labels.

    With a shipped bundle, one image of each patient sets the threshold: false alarms at your site then keep to it. With
    a bundle that has an outlier reference, half of the patients extend that instead. Codes stay the same. Outliers are
    judged by the bundle, not by an archive. Give about 500 images of at least 70 patients, unselected.
    """
    from medlike.bundle import Bundle, default
    from medlike.cli.screen import note, print_json, progress, table
    from medlike.cli.screen import out as stdout
    from medlike.commissioning.site import calibrate as fit
    from medlike.commissioning.site import read_site
    from medlike.inference import Encoder

    given = Bundle.load(bundle or default())
    with Encoder(given) as encoder, progress() as display:
        task = display.add_task("reading", total=None)
        site = read_site(encoder, data, tick=lambda count: display.update(task, completed=count))
    made = fit(given, site, out, overwrite=replace)
    before = site.encodings.outlier
    assert before is not None
    facts = {
        "bundle": {"name": made.name, "digest": made.digest, "path": str(made.path)},
        "images": len(site),
        "units": int(site.units.max()) + 1,
        "calibration_units": made.spec["outlier"]["calibration_units"],
        "outliers_before": float(before.is_outlier.mean()),
        "refused": [{"path": path, "reason": reason} for path, reason in site.refused],
    }
    if format is Report.json:
        print_json(facts)
    else:
        rows = [
            ("bundle", str(made.path)),
            ("images", len(site)),
            ("patients or cases", facts["units"]),
            ("calibration", ", ".join(f"{k} {v}" for k, v in facts["calibration_units"].items())),
            ("called outliers before", f"{facts['outliers_before']:.1%}"),
            ("promised from now on", f"at most {before.threshold:.1%} of such images"),
        ]
        stdout().print(table(("", ""), rows))
        for path, reason in site.refused[:20]:
            note(f"refused {path}: {reason}")
    if site.refused:
        raise typer.Exit(REFUSED)
