"""Upgrading an archive to the newest format: digests for all rows, and the spool under private/.

Each step can be interrupted and done again, and leaves an archive that opens and answers as before. archive.json, which
shuts out an earlier medlike, is written last, by the caller.
"""

from dataclasses import dataclass, field

from medlike.archive.storage.database import DigestedDatabase
from medlike.archive.storage.digests import seal_all
from medlike.archive.storage.fits import FitReport
from medlike.archive.storage.folder import FORMAT, Folder, spool_of
from medlike.archive.storage.identity import Links
from medlike.archive.storage.spool import move_spool
from medlike.archive.storage.store import Store
from medlike.types import Progress


@dataclass
class UpgradeReport:
    """What an upgrade did.

    Attributes:
        former: The archive's format before.
        format: Its format now.
        sealed: By table, rows that had no digest and got one. Damage from before cannot be told any more.
        received: Received files that wait to be committed; they lie in private/spool now.
        fit: The fit that was made at the end, None if none was due.
    """

    former: int
    format: int = FORMAT
    sealed: dict[str, int] = field(default_factory=dict)
    received: int = 0
    fit: FitReport | None = None

    @property
    def changed(self) -> bool:
        """Return False where the archive was of the newest format already, with a digest for each row."""
        return self.former != self.format or bool(self.sealed)

    @property
    def done(self) -> int:
        """Return how many rows got a digest."""
        return sum(self.sealed.values())


def upgrade(
    folder: Folder, store: Store, links: Links, report: UpgradeReport, progress: Progress[UpgradeReport] | None
) -> None:
    """Do all of an upgrade but the writing of archive.json; the caller holds the writer's lock.

    Args:
        folder: The archive's folder, as archive.json describes it.
        store: Its store, with the newest schema.
        links: Its links; where they are missing, they are left out.
        report: Gets what was done.
        progress: Called with the report so far.
    """

    def seal(database: DigestedDatabase) -> None:
        for table in database.tables:

            def count(rows: int, table: str = table) -> None:
                report.sealed[table] = report.sealed.get(table, 0) + rows
                if progress is not None:
                    progress(report)

            seal_all(database, table, count)

    seal(store)
    if links.present:
        links.add_digests()
        seal(links)
    if folder.format < FORMAT:
        report.received = move_spool(folder.path / "spool", folder.path / spool_of(FORMAT))
