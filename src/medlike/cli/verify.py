"""medlike verify: check every part of an archive."""

from medlike.cli.exits import FAILED
from medlike.cli.options import ArchivePlace, Report, ReportFormat, opened

EXAMPLES = """[b]Example[/b]

medlike verify --archive archive/
"""


def verify(archive: ArchivePlace = None, format: ReportFormat = Report.table) -> None:
    """Check every part of an archive: store, pixels, previews, links, spool, index. Changes nothing.

    The exit code is 1 where something is wrong.
    """
    from contextlib import suppress

    import typer

    from medlike import Archive
    from medlike.cli.screen import counted, note, out, print_json, print_table
    from medlike.errors import ArchiveError

    with opened(archive) as checked:
        problems = list(checked.verify())
        unchecked: dict[str, int] = {}
        if isinstance(checked, Archive):
            with suppress(ArchiveError):  # it is among the problems
                unchecked = checked.unchecked()
    if format is Report.json:
        listed = [{"part": p.part, "detail": p.detail} for p in problems]
        print_json({"ok": not problems, "problems": listed, "unchecked": unchecked})
    elif problems:
        print_table(("part", "problem"), [(p.part, p.detail) for p in problems])
    else:
        out().print("no problems")
    if unchecked:
        rows = ", ".join(f"{counted(count, 'row')} of {table}" for table, count in unchecked.items())
        note(f"medlike: without a digest and so unchecked: {rows}; run `medlike upgrade`")
    if problems:
        raise typer.Exit(FAILED)
