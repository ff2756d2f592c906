"""medlike index: add images to an archive."""

import glob
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.archive.intake.settings import IntakeSettings
from medlike.cli.exits import FAILED, REFUSED, fail
from medlike.cli.fit import FitDisplay, fitted
from medlike.cli.options import ArchivePlace, Report, ReportFormat, Wait, archive_folder, client, refuse, remote
from medlike.cli.settings import options_from_settings
from medlike.option import Option

if TYPE_CHECKING:
    from medlike import Archive
    from medlike.archive.intake.report import AddReport
    from medlike.imaging import Frames

SHOWN = 20
# Options that a service decides by its own rules.
_OF_FOLDERS = {
    "bundle", "text_bundle", "shared", "pixels", "frames", "keep_identifiers", "decoding", "on_conflict", "fit",
    "segmentations", "wait",
}  # fmt: skip

EXAMPLES = """[b]Examples[/b]

medlike index scans/ --archive archive/

medlike index manifest.csv one.dcm "more/*.png" --archive archive/

medlike index enhanced/ --archive archive/ --frames all --pixels copy

MEDLIKE_TOKEN=... medlike index scans/ --archive http://127.0.0.1:8000
"""


def _frames(text: str) -> "Frames":
    if text == "all":
        return "all"
    if text == "middle":
        return "middle"
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither all, middle, nor a number from 1", param_hint="--frames")


@dataclass(frozen=True)
class NewArchiveOptions:
    """How to create an archive that does not exist.

    Attributes:
        bundle: Name or folder of a bundle; of an existing archive, a calibrated copy of its bundle.
        text_bundle: Name or folder of a text bundle, "default" or "none".
        shared: If true, other users of the machine can read it.
    """

    bundle: Annotated[
        str | None,
        Option(
            "For a new archive: the name of a shipped bundle, or the folder of one. For an existing archive: a "
            "calibrated copy of its bundle.",
            "--bundle -b",
            shown="the default bundle",
        ),
    ] = None
    text_bundle: Annotated[
        str,
        Option(
            "For a new archive: the text bundle for search by meaning, by name or folder; none to do without.",
            shown="medlike-text-16, if it fits the bundle and medlike[text] is installed",
        ),
    ] = "default"
    shared: Annotated[
        bool,
        Option(
            "For a new archive: let other users of this machine read it, as far as your umask allows. The private "
            "folder stays closed."
        ),
    ] = False


@options_from_settings(NewArchiveOptions)
@options_from_settings(IntakeSettings, frames=_frames)
def index(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders, files, globs, or manifests (CSV with a column path). Folders are searched with all their "
            "subfolders; archives in them are skipped.",
        ),
    ],
    *,
    archive: ArchivePlace = None,
    new: NewArchiveOptions,
    settings: IntakeSettings,
    segmentations: Annotated[
        bool,
        typer.Option("--segmentations", help="Also index DICOM segmentation objects, which are skipped by default."),
    ] = False,
    wait: Wait = 0.0,
    format: ReportFormat = Report.table,
) -> None:
    """Add images to an archive; create the archive if it does not exist.

    Run it again to add new files; unchanged files are skipped. A file that cannot be read never stops the others:
    it is listed at the end with the reason, and the exit code is 3. So is a file in conflict with a stored image.
    """
    from medlike.archive.intake.report import AddReport
    from medlike.cli.screen import print_json, progress
    from medlike.errors import NothingAdded

    if archive is not None and remote(archive):
        refuse(context, _OF_FOLDERS, "a service stores the pixels and all frames of what it is sent, by its own rules")
        _upload(archive, sources, format)
        return
    folder = archive_folder(archive)
    there, new_archive = folder.exists(), not (folder / "archive.json").exists()
    opened = _opened(folder, sources, new, settings.keep_identifiers)
    with opened, progress() as display:
        task, fitting = display.add_task("Indexing", total=None), FitDisplay(display)

        def show(so_far: AddReport) -> None:
            display.update(task, completed=so_far.files)
            if so_far.fit is not None:
                fitting.update(so_far.fit)

        try:
            report = opened.add(
                sources,
                pixels=settings.pixels,
                frames=settings.frames,
                segmentations=segmentations,
                decoding=settings.decoding,
                on_conflict=settings.on_conflict,
                wait=wait,
                fit=settings.fit,
                progress=show,
            )
        except NothingAdded as error:
            assert isinstance(error.report, AddReport)
            report = error.report  # which is shown as every other
    nothing = new_archive and not (report.added or report.replaced or report.unchanged or report.duplicates)
    if nothing:
        _discard(folder, there)
    if format is Report.json:
        print_json({"archive": str(folder), **report.to_dict()})
    else:
        _show(report, None if nothing else str(folder))
    if nothing:
        fail("no archive was made: there is no image to be put in it", REFUSED if report.skipped else FAILED)
    if report.skipped or report.conflicts:
        raise typer.Exit(REFUSED)


def _upload(address: str, sources: list[str], format: Report) -> None:
    """Send the files to a service, and show its report."""
    from medlike.archive.intake.report import AddReport
    from medlike.cli.screen import print_json, progress, size
    from medlike.errors import NothingAdded

    with client(address) as service, progress() as display:
        task, bytes_sent = display.add_task("Uploading", total=None), 0

        def sent(count: int) -> None:
            nonlocal bytes_sent
            bytes_sent += count
            display.update(task, description=f"Uploading, {size(bytes_sent)}")

        def show(so_far: AddReport) -> None:
            display.update(task, completed=so_far.files)

        try:
            report = service.add(sources, show, sent)
        except NothingAdded as error:
            assert isinstance(error.report, AddReport)
            report = error.report
    if format is Report.json:
        print_json({"archive": address, **report.to_dict()})
    else:
        _show(report, address)
    if report.skipped:
        raise typer.Exit(REFUSED)


def _discard(folder: Path, there: bool) -> None:
    """Delete a new archive that nothing was added to, and its folder unless that was there before."""
    from medlike.archive.storage.creation import discard

    discard(folder)
    if not there:
        with suppress(OSError):
            folder.rmdir()


def _opened(folder: Path, sources: list[str], new: NewArchiveOptions, keep_identifiers: bool) -> "Archive":
    """Return the archive in a folder, created if there is none and one of the sources exists."""
    from medlike import Archive
    from medlike.errors import ArchiveError

    if not (folder / "archive.json").exists():
        if not any(map(_exists, sources)):
            fail(f"there is no {' and no '.join(sources)}; no archive was made: give images, folders or manifests")
        try:
            return Archive.create(folder, keep_identifiers=keep_identifiers, **vars(new))
        except ArchiveError:
            # Another process may have created it in the meantime.
            if not (folder / "archive.json").exists():
                raise
    opened = Archive.open(folder, bundle=new.bundle)
    if keep_identifiers and not opened.keep_identifiers:
        fail(f"{folder} was made without --keep-identifiers; make a new archive to keep them")
    if new.shared and not opened.shared:
        fail(f"{folder} was made without --shared; make a new archive to share it")
    if new.text_bundle != "default":
        _require_text_bundle(opened, new.text_bundle)
    return opened


def _require_text_bundle(opened: "Archive", name: str) -> None:
    """Fail if an existing archive has another text bundle, or none: indexing does not change it."""
    from medlike.archive.storage.folder import TextBundleFacts, encode_alike, loaded_text_bundle

    has = opened.text_bundle
    required = None if name == "none" else TextBundleFacts.of(loaded_text_bundle(name))
    if has != required and (has is None or required is None or not encode_alike(has, required)):
        named = "no text bundle" if has is None else f"text bundle {has.name}"
        fail(f"{opened.path} has {named}; to change that run `medlike reindex --text-bundle {name}`")


def _exists(source: str) -> bool:
    return os.path.lexists(source) or any(glob.iglob(source, recursive=True))  # noqa: PTH207 (absolute patterns)


def _show(report: "AddReport", folder: str | None) -> None:
    from medlike.cli.screen import counted, note, out, print_table, say

    parts = [f"[b]{report.added}[/b] added"]
    for name, count in (
        ("replaced", report.replaced),
        ("unchanged", report.unchanged),
        ("duplicate" if len(report.duplicates) == 1 else "duplicates", len(report.duplicates)),
        ("in conflict", len(report.conflicts)),
        ("refused", len(report.skipped)),
    ):
        if count:
            parts.append(f"[b]{count}[/b] {name}")
    total = report.seconds.get("total", 0.0)
    console = out()
    console.print(f"{', '.join(parts)} in {total:.1f} s")
    if report.texts:
        passages = counted(report.deidentified, "passage")
        console.print(f"{counted(report.texts, 'text')} stored, {passages} in them replaced by rule")
    if folder is not None:
        say(f"archive: {folder}")
    if report.fit is not None:
        say(fitted(report.fit))
    if report.relinked:
        sources = "1 source" if report.relinked == 1 else f"{report.relinked} sources"
        say(f"{sources} found again: the images had no link, or their files had moved")
    for column, (count, example) in report.dropped.items():
        values = "1 value" if count == 1 else f"{count} values"
        note(f"medlike: {values} of the column {column} not understood and left out, for example {example!r}")
    for passed_over in report.archives:
        note(f"medlike: {passed_over} is an archive or a backup of one, and was passed over")
    if not report.files:
        note("medlike: no image file was found there; a folder is searched for DICOM, PNG, JPEG, TIFF, BMP and WebP")
    conflicts = [(each.path, each.stored, ", ".join(each.differs), each.outcome) for each in report.conflicts]
    listed = {conflict.id for conflict in report.conflicts}
    moved = [(new, old) for new, old, id in report.replacements if old not in (None, new) and id not in listed]
    tables: list[tuple[tuple[str, ...], Sequence[tuple[str | None, ...]]]] = [
        (("taken", "remark"), report.remarks),
        (("new file", "replaces"), moved),
        (("in conflict", "stored file", "differs", "outcome"), conflicts),
        (("refused", "reason"), report.skipped),
    ]
    for heading, rows in tables:
        if rows:
            print_table(heading, rows[:SHOWN])
        if len(rows) > SHOWN:
            console.print(f"... and {len(rows) - SHOWN} more; all of them: --format json")
