"""medlike fit: fit codes to an archive's own images."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.options import ArchivePlace, Report, ReportFormat, Wait, opened

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from medlike.archive.storage.fits import FitReport, LabelTrial

EXAMPLES = """[b]Examples[/b]

medlike fit --archive archive/

medlike fit --archive archive/ --bits 128

medlike fit --archive archive/ --labels modality
"""


class FitDisplay:
    """Show how far a fit is: first the fit itself, then the recoding with the time that it still takes."""

    def __init__(self, display: "Progress") -> None:
        self._display = display
        self._task: TaskID | None = None
        self._began = 0.0

    def update(self, so_far: "FitReport") -> None:
        """Show the report so far."""
        if self._task is None:
            self._task = self._display.add_task("Fitting codes", total=None)
        if not so_far.recoded:
            self._began = time.perf_counter()
            return
        left = (time.perf_counter() - self._began) * (so_far.images / so_far.recoded - 1)
        self._display.update(
            self._task,
            description=f"Recoding, about {max(left, 0.0):.0f} s left",
            total=so_far.images,
            completed=so_far.recoded,
        )


def fit(
    archive: ArchivePlace = None,
    bits: Annotated[
        int | None,
        typer.Option(
            "--bits",
            help="Length of a code, a multiple of 8 from 8 to 512.",
            show_default="that of the fit in use, else 64",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FIELD",
            help="Tell images apart by the values of a field (label, modality, region or another), if that helps to "
            "find images of patients held out; none for a fit without.",
            show_default="that of the fit in use",
        ),
    ] = None,
    wait: Wait = 0.0,
    format: ReportFormat = Report.table,
) -> None:
    """Fit codes to the images of an archive, and search by them from now on.

    No pixel is read. Indexing does this by itself, first at 500 images of 200 patients, then at fourfold growth.
    Earlier searches can be repeated until `compact`.
    """
    from medlike import Archive
    from medlike.archive.intake.fitting import require_bits
    from medlike.cli.screen import print_json, progress, say
    from medlike.errors import QueryError

    if bits is not None:
        try:
            require_bits(bits)
        except QueryError as error:
            raise typer.BadParameter(str(error), param_hint="--bits") from None
    with opened(archive, wait) as writable, progress() as display:
        show = FitDisplay(display).update
        if isinstance(writable, Archive):
            report = writable.fit(bits, show, wait, labels)
        else:
            report = writable.fit(bits, show, labels)
    if format is Report.json:
        print_json(asdict(report))
    else:
        say(fitted(report))


def fitted(report: "FitReport") -> str:
    """Return a report of a fit as a sentence."""
    from medlike.cli.screen import counted

    if not report.digest:
        return "too few images are left for a fit: the codes of the bundle are searched again"
    seconds = sum(report.seconds.values())
    return (
        f"codes of {report.bits} bits fitted to {counted(report.images, 'image')} ({report.note}), "
        f"{report.recoded} recoded in {seconds:.1f} s" + _labelled(report.labels)
    )


def _labelled(labels: "LabelTrial | None") -> str:
    """Return what labels did for a fit as a sentence."""
    if labels is None:
        return ""
    if labels.map_with is None:
        return f"; without labels: {labels.reason}"
    counts = f"{labels.labels} values of {labels.field}, {labels.patients} patients"
    figures = (
        f"mAP {labels.map_with:.3f} with them, {labels.map_without:.3f} without; P@10 {labels.precision_with:.3f} and "
        f"{labels.precision_without:.3f}"
    )
    left_out = f"; left out, since one source alone has them: {', '.join(labels.left_out)}" if labels.left_out else ""
    with_them = "with labels" if labels.used else f"without labels, since {labels.reason}"
    return f"; fitted {with_them} ({counts}; patients held out: {figures}{left_out})"
