"""medlike verify: check every part of an archive."""

from medlike.cli.exits import FAILED
from medlike.cli.options import ArchiveFolder, Report, ReportFormat, archive_folder

EXAMPLES = """[b]Example[/b]

medlike verify --archive archive/
"""


def verify(archive: ArchiveFolder = None, format: ReportFormat = Report.table) -> None:
    """Check every part of an archive: store, pixels, previews, links, spool, index. Changes nothing.

    The exit code is 1 where something is wrong.
    """
    import typer

    from medlike import Archive
    from medlike.cli.screen import out, print_json, print_table

    with Archive.open(archive_folder(archive)) as opened:
        problems = list(opened.verify())
    if format is Report.json:
        print_json({"ok": not problems, "problems": [{"part": p.part, "detail": p.detail} for p in problems]})
    elif problems:
        print_table(("part", "problem"), [(p.part, p.detail) for p in problems])
    else:
        out().print("no problems")
    if problems:
        raise typer.Exit(FAILED)
