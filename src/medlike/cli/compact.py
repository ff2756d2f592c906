"""medlike compact: delete removed images for good."""

from medlike.cli.options import ArchivePlace, Report, ReportFormat, Wait, opened

EXAMPLES = """[b]Example[/b]

medlike compact --archive archive/
"""


def compact(archive: ArchivePlace = None, wait: Wait = 0.0, format: ReportFormat = Report.table) -> None:
    """Delete removed images and earlier generations for good, and merge the index.

    Receipts of earlier searches cannot be repeated afterwards.
    """
    from medlike import Archive
    from medlike.cli.screen import note, out, print_json

    with opened(archive, wait) as writable:
        if isinstance(writable, Archive):
            note(f"medlike: compacting needs {writable.room('compact')}")
            report = writable.compact(wait)
        else:
            report = writable.compact()
    if format is Report.json:
        print_json({"removed": report.rows, "files": report.files, "oldest_generation": report.generation})
    else:
        out().print(f"[b]{report.rows}[/b] removed images dropped, [b]{report.files}[/b] files deleted")
