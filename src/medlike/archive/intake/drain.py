"""Committing what the spool holds: each file once, struck off or set aside only after its commit."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from medlike import files as durable
from medlike.archive.intake.ingest import AddReport, Finished, Intake
from medlike.archive.storage.identity import Links, Seen
from medlike.archive.storage.spool import Entry, Spool
from medlike.errors import InputError

if TYPE_CHECKING:
    from medlike.imaging import Frames

_SPOOLED = "spool:"  # before the ticket, in place of a path: received files have none


def arrivals(spool: Spool) -> list[Entry]:
    """Return the entries to be committed. One whose file is lost is left out; `verify` names it."""
    spool.sweep()
    return [entry for entry in spool.entries() if durable.is_regular(entry.path)]


@dataclass(frozen=True)
class Ticket:
    """State of a received file.

    Attributes:
        state: "received" and waiting to be committed, "indexed", or "refused".
        ids: Public ids of its images, where it was indexed.
        reason: Why it was refused.
    """

    state: Literal["received", "indexed", "refused"]
    ids: tuple[str, ...] = ()
    reason: str | None = None


def ticket_status(spool: Spool, links: Links, ticket: str) -> Ticket:
    """Return what became of a received file.

    Raises:
        InputError: Nothing is known of the ticket.
    """
    # In this order: a file leaves the spool only after its images are committed and their ids written down.
    if spool.waits(ticket):
        return Ticket("received")
    seen = links.seen(_SPOOLED + ticket) if links.present else None
    if seen is not None:
        return Ticket("indexed", tuple(seen.ids))
    for entry in spool.refused():
        if entry.ticket == ticket:
            return Ticket("refused", reason=entry.reason)
    raise InputError(f"no file was received under ticket {ticket!r}, or its images were erased: check the ticket")


def take_in(spool: Spool, entries: list[Entry], intake: Intake, frames: "Frames") -> AddReport:
    """Commit entries of the spool, pixels and all; those that cannot be used are set aside with the reason."""
    from medlike.imaging import Source

    by_path = {str(entry.path): entry for entry in entries}
    sources = [
        Source(path, dict(entry.metadata), dict(entry.texts), dict(entry.identifiers), frames=frames)
        for path, entry in by_path.items()
    ]

    def settled(finished: list[Finished]) -> None:
        whole = [(by_path[source.path], ids) for source, ids, reasons in finished if not reasons]
        intake.links.write(seen=[Seen(_SPOOLED + entry.ticket, "", "", tuple(ids)) for entry, ids in whole])
        for entry, _ in whole:
            spool.done(entry)
        for source, _, reasons in finished:
            if reasons:
                spool.refuse(by_path[source.path], "; ".join(reasons))

    report = intake.run(sources, received=True, settled=settled)
    # The sender knows the file by its name, not by its place in the spool.
    report.skipped = [(by_path[path].name or path, reason) for path, reason in report.skipped]
    report.remarks = [(by_path[path].name or path, remark) for path, remark in report.remarks]
    report.duplicates = [(by_path[path].name or path, id) for path, id in report.duplicates]
    report.conflicts = [
        replace(conflict, path=by_path[conflict.path].name or conflict.path) for conflict in report.conflicts
    ]
    report.replacements = [(by_path[path].name or path, stored, id) for path, stored, id in report.replacements]
    return report
