"""medlike remove: remove images from an archive."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from medlike.cli.exits import REFUSED
from medlike.cli.fit import fitted
from medlike.cli.options import ArchivePlace, Report, ReportFormat, Wait, full_id, opened
from medlike.cli.settings import options_from_settings
from medlike.option import Option

if TYPE_CHECKING:
    from medlike import Archive, Client

EXAMPLES = """[b]Examples[/b]

medlike remove 1f0c9a... --archive archive/

medlike remove 1f0c9a... --archive archive/ --erase --yes

medlike remove --patient P-4711 --archive archive/ --erase
"""


@dataclass(frozen=True)
class OwnerOptions:
    """Whose images to remove, by true values; of several, images of all of them.

    Attributes:
        patient: A patient id.
        study: A study instance UID.
        series: A series instance UID.
    """

    patient: Annotated[str | None, Option("Remove all images of a patient id.", metavar="VALUE")] = None
    study: Annotated[str | None, Option("Remove all images of a study UID.", metavar="VALUE")] = None
    series: Annotated[str | None, Option("Remove all images of a series UID.", metavar="VALUE")] = None


@options_from_settings(OwnerOptions)
def remove(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Ids of images, or at least the first 4 digits of each."),
    ] = None,
    archive: ArchivePlace = None,
    *,
    owners: OwnerOptions,
    erase: Annotated[
        bool, typer.Option("--erase", help="Leave no trace in the archive: rows, pixels, texts and links.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before erasing.")] = False,
    wait: Wait = 0.0,
    format: ReportFormat = Report.table,
) -> None:
    """Remove images from an archive. Without --erase, repeated searches of earlier generations still see them.

    You cannot undo --erase, and it does not reach backups or the original files. Unknown ids are listed; the exit
    code is then 3.
    """
    from medlike import Archive
    from medlike.cli.screen import counted, note, print_json, say

    given = {name: value for name, value in vars(owners).items() if value}
    if ids and given:
        raise typer.BadParameter(
            f"ids and --{next(iter(given))} are both given: remove the ones, then the others", param_hint="ID"
        )
    if not ids and not given:
        raise typer.BadParameter("nothing is given: give ids, --patient, --study or --series", param_hint="ID")
    with opened(archive, wait) as writable:
        doomed = [full_id(writable, id) for id in ids or ()] or _of(writable, given, erase)
        if not doomed:
            note(f"medlike: no image of {' and '.join(f'{name} {value}' for name, value in given.items())}")
            raise typer.Exit(REFUSED)
        if erase and not yes:
            typer.confirm(f"Erase {counted(len(doomed), 'image')} for good?", abort=True, err=True)
        if isinstance(writable, Archive):
            if erase:
                note(f"medlike: erasing needs {writable.room('erase')}")
            report = writable.remove(doomed, erase=erase, wait=wait)
        else:
            report = writable.remove(doomed, erase=erase)
    if format is Report.json:
        print_json(asdict(report))
    else:
        done = f"{counted(report.erased, 'row')} erased" if erase else f"{counted(report.removed, 'image')} removed"
        say(f"{done}, generation {report.generation}")
        if report.fit is not None:
            say(fitted(report.fit))
    for id in report.unknown:
        note(f"medlike: no image {id}")
    if report.unknown:
        raise typer.Exit(REFUSED)


def _of(writable: "Archive | Client", owners: dict[str, str], erase: bool) -> list[str]:
    """Return the ids of all images of a patient, study or series, to erase also those that are removed already."""
    from medlike import Archive

    if isinstance(writable, Archive):
        return writable.ids_of(**owners, removed=erase)
    if erase:
        raise typer.BadParameter(
            "a service does not list images that are removed already, which would be erased too: give ids, or erase on "
            "the service's machine",
            param_hint=f"--{next(iter(owners))}",
        )
    first = writable.browse(owners, limit=1)
    return [image.id for image in writable.browse(owners, limit=max(1, first.total)).images]
