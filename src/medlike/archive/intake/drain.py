"""Committing what the spool holds: each file once, struck off or set aside only after its commit."""

from typing import TYPE_CHECKING, Any

from medlike import files as durable
from medlike.archive.intake.ingest import AddReport, Intake
from medlike.archive.storage.spool import Entry, Spool

if TYPE_CHECKING:
    from medlike.imaging import Source


def arrivals(spool: Spool) -> list[Entry]:
    """Return the entries to be committed. One whose file is lost is left out; `verify` names it."""
    spool.sweep()
    return [entry for entry in spool.entries() if durable.is_regular(entry.path)]


def take_in(spool: Spool, entries: list[Entry], intake: Intake, frames: Any) -> AddReport:
    """Commit entries of the spool, pixels and all; those that cannot be used are set aside with the reason."""
    from medlike.imaging import Source

    by_path = {str(entry.path): entry for entry in entries}
    sources = [
        Source(path, dict(entry.metadata), dict(entry.texts), dict(entry.identifiers), frames=frames)
        for path, entry in by_path.items()
    ]

    def settled(source: "Source", reasons: list[str]) -> None:
        if reasons:
            spool.refuse(by_path[source.path], "; ".join(reasons))
        else:
            spool.done(by_path[source.path])

    report = intake.run(sources, received=True, settled=settled)
    # The sender knows the file by its name, not by its place in the spool.
    report.skipped = [(by_path[path].name or path, reason) for path, reason in report.skipped]
    report.remarks = [(by_path[path].name or path, remark) for path, remark in report.remarks]
    report.duplicates = [(by_path[path].name or path, id) for path, id in report.duplicates]
    return report
