"""medlike upgrade: bring an archive to the newest format."""

from dataclasses import asdict

from medlike.cli.fit import fitted
from medlike.cli.options import ArchiveFolder, Report, ReportFormat, Wait, archive_folder

EXAMPLES = """[b]Example[/b]

medlike upgrade --archive archive/
"""


def upgrade(archive: ArchiveFolder = None, wait: Wait = 0.0, format: ReportFormat = Report.table) -> None:
    """Bring an archive to the newest format, which an earlier medlike cannot open. Receipts stay as they are.

    Codes are then fitted to the archive if it is time (`medlike fit`).
    """
    from medlike import Archive
    from medlike.cli.screen import counted, print_json, progress, say

    folder = archive_folder(archive)
    with Archive.open(folder) as opened, progress() as display:
        task = display.add_task("Upgrading rows", total=None)
        report = opened.upgrade(lambda so_far: display.update(task, completed=so_far.done), wait)
    if format is Report.json:
        print_json(asdict(report))
    elif not report.changed:
        say(f"{folder} is of format {report.format} already")
    else:
        if report.former != report.format:
            say(f"{folder} is of format {report.format} now; it was of format {report.former}")
        for table, rows in report.sealed.items():
            say(f"digests added to {counted(rows, 'row')} of {table}")
        if report.received:
            say(f"{counted(report.received, 'received file')} moved to private/spool")
        if report.sealed:
            say("What changes in these rows from now on is noticed; damage from before cannot be told.")
        if report.fit is not None:
            say(fitted(report.fit))
