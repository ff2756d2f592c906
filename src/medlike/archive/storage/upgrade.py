"""Upgrading an archive to the newest format: digests for all rows, and the spool under private/.

Each step can be interrupted and done again, and leaves an archive that opens and answers as before. archive.json, which
shuts out an earlier medlike, is written before any step after which that one could not write to the archive.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from medlike.archive.storage.database import DigestedDatabase
from medlike.archive.storage.digests import add_columns, seal_all
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
        sentences: Images whose fields were encoded as sentences under the text bundle.
        text: Name of the text bundle under which images and texts were encoded anew, None if they were not.
        encoded: Images that were encoded again.
        lost: Ids of images without pixels or preview, for which the archive was not switched to another bundle.
    """

    former: int
    format: int = FORMAT
    sealed: dict[str, int] = field(default_factory=dict)
    received: int = 0
    fit: FitReport | None = None
    sentences: int = 0
    text: str | None = None
    encoded: int = 0
    lost: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Return False where the archive was of the newest format already, with a digest for each row."""
        encoded = self.sentences or self.text or self.encoded or self.lost
        return self.former != self.format or bool(self.sealed) or bool(encoded)

    @property
    def done(self) -> int:
        """Return how many rows got a digest, and images new codes."""
        return sum(self.sealed.values()) + self.encoded


def upgrade(
    folder: Folder,
    store: Store,
    links: Links,
    publish: Callable[[], None],
    report: UpgradeReport,
    progress: Progress[UpgradeReport] | None,
) -> None:
    """Upgrade an archive, but for its codes; the caller holds the writer's lock.

    Args:
        folder: The archive's folder, as archive.json describes it.
        store: Its store, with the newest schema.
        links: Its links; where they are missing, they are left out.
        publish: Writes archive.json with the newest format.
        report: Gets what was done.
        progress: Called with the report so far.
    """

    def seal(database: DigestedDatabase) -> None:
        for table in filter(database.has_digests, database.tables):

            def count(rows: int, table: str = table) -> None:
                report.sealed[table] = report.sealed.get(table, 0) + rows
                if progress is not None:
                    progress(report)

            seal_all(database, table, count)

    seal(store)
    if folder.format < FORMAT:
        report.received = move_spool(folder.path / "spool", folder.path / spool_of(FORMAT))
    publish()
    for database in (store, links) if links.present else (store,):
        add_columns(database)
        seal(database)
