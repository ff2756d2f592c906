"""Committing what the spool holds: each file once, struck off or set aside only after its commit.

No file can hold up the others: one that fails twice is set aside. Removing images does not wait for the spool: what
was received before a removal and holds a removed image is dropped when its turn comes.
"""

import errno
import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from medlike import files as durable
from medlike import strict_json
from medlike.archive.intake.ingest import GROUP, Finished, Intake
from medlike.archive.intake.report import AddReport
from medlike.archive.storage import upkeep
from medlike.archive.storage.identity import Links, Seen
from medlike.archive.storage.spool import Entry, Spool
from medlike.archive.storage.withdrawn import Withdrawn
from medlike.errors import ArchiveFull, ArchiveLocked, BundleError, InputError, WorkerError

if TYPE_CHECKING:
    from medlike.archive.storage.identity import Identity
    from medlike.imaging import Frames, Source

_SPOOLED = "spool:"  # before the ticket, in place of a path: received files have none
_TRIES = 2
_DIED = "the program ended twice while it was being read: receive it again if it was stopped from outside"
# What fails for every file, whatever is in it.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS)


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
        duplicates: Those of `ids` that were stored before, with the same pixels and facts: the file added nothing.
    """

    state: Literal["received", "indexed", "refused"]
    ids: tuple[str, ...] = ()
    reason: str | None = None
    duplicates: tuple[str, ...] = ()


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
        duplicates = strict_json.loads(seen.facts or "[]")
        return Ticket("indexed", tuple(seen.ids), duplicates=tuple(id for id in seen.ids if id in duplicates))
    for entry in spool.refused():
        if entry.ticket == ticket:
            return Ticket("refused", reason=entry.reason)
    raise InputError(f"no file was received under ticket {ticket!r}, or its images were erased: check the ticket")


def take_in(
    spool: Spool, entries: list[Entry], start: Callable[[AddReport], Intake], report: AddReport, frames: "Frames"
) -> None:
    """Commit entries of the spool, pixels and all; those that cannot be used are set aside with the reason.

    Args:
        spool: The spool.
        entries: What to commit, in the order of arrival.
        start: Begins an intake that counts in a report.
        report: What is counted in.
        frames: Frames of a multi-frame file.

    Raises:
        ArchiveFull, ArchiveLocked, BundleError: Nothing is wrong with the files; they wait for the next write.
    """
    seconds, names = 0.0, {str(entry.path): entry.name or str(entry.path) for entry in entries}
    try:
        tried = spool.tried()
        for group in _groups(entries, tried):
            for attempt in (group, *([entry] for entry in group)):
                waiting = [entry for entry in attempt if spool.waits(entry.ticket)]
                if waiting:
                    _try(spool, waiting, tried, start(report), frames, again=attempt is not group)
                    seconds += report.seconds["total"]
    finally:
        spool.note_tries({})
    report.seconds["total"] = seconds
    # The sender knows the file by its name, not by its place in the spool.
    report.skipped = [(names.get(path, path), reason) for path, reason in report.skipped]
    report.remarks = [(names.get(path, path), remark) for path, remark in report.remarks]
    report.duplicates = [(names.get(path, path), id) for path, id in report.duplicates]
    report.conflicts = [replace(each, path=names.get(each.path, each.path)) for each in report.conflicts]
    report.replacements = [(names.get(path, path), stored, id) for path, stored, id in report.replacements]


def _groups(entries: list[Entry], tried: dict[str, int]) -> list[list[Entry]]:
    """Divide entries into groups, in order; one that was under way when a drain died is alone in its group."""
    groups: list[list[Entry]] = []
    for entry in entries:
        alone = entry.ticket in tried or not groups or groups[-1][0].ticket in tried or len(groups[-1]) == GROUP
        if alone:
            groups.append([])
        groups[-1].append(entry)
    return groups


def _try(
    spool: Spool, entries: list[Entry], tried: dict[str, int], intake: Intake, frames: "Frames", again: bool
) -> None:
    """Commit entries. Whatever their files raise is caught: those left over wait, or are set aside at the last try.

    Args:
        spool: The spool.
        entries: What to commit.
        tried: Tries so far, by ticket; these are added, and dropped where they succeed.
        intake: Not used before.
        frames: Frames of a multi-frame file.
        again: Whether this process has tried them before.
    """
    first, report = entries[0], intake.report
    if not again and tried.get(first.ticket, 0) >= _TRIES:
        report.skipped.append((str(first.path), _DIED))
        spool.refuse(first, _DIED)
        return
    tried.update({entry.ticket: tried.get(entry.ticket, 0) + 1 for entry in entries})
    spool.note_tries(tried)
    try:
        _commit(spool, entries, tried, intake, frames)
        for entry in entries:
            del tried[entry.ticket]
    except Exception as error:
        if _of_the_archive(error):
            raise
        # What was written for a group that was not committed belongs to no image.
        upkeep.sweep(intake.store, intake.links, intake.pixels)
        waiting = {str(entry.path) for entry in entries if spool.waits(entry.ticket)}
        report.skipped = [(path, reason) for path, reason in report.skipped if path not in waiting]
        report.remarks = [(path, remark) for path, remark in report.remarks if path not in waiting]
        report.duplicates = [(path, id) for path, id in report.duplicates if path not in waiting]
        report.conflicts = [each for each in report.conflicts if each.path not in waiting]
        report.replacements = [each for each in report.replacements if each[0] not in waiting]
        if again and waiting:
            reason = f"{type(error).__name__}: {error}"
            report.skipped.append((str(first.path), reason))
            spool.refuse(first, reason)


def _of_the_archive(error: Exception) -> bool:
    """Return whether an error would meet any file: then none is to blame."""
    cause = error.__cause__ or error
    if isinstance(cause, sqlite3.DataError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return False
    return (
        isinstance(error, ArchiveFull | ArchiveLocked | BundleError | WorkerError)
        or isinstance(cause, sqlite3.Error)
        or (isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE)
    )


def _commit(
    spool: Spool, entries: list[Entry], tried: dict[str, int], intake: Intake, frames: "Frames"
) -> None:
    by_path = {str(entry.path): entry for entry in entries}
    withdrawn = Withdrawn(intake.store)

    def drops(path: str, id: str) -> bool:
        return withdrawn.holds(id, by_path[path].number)

    def settled(finished: list[Finished]) -> None:
        whole = []
        for source, ids, reasons, stored in finished:
            kept = [id for id in ids if not drops(source.path, id)]
            # Of a file whose images were all removed before its turn came, nothing is remembered.
            if not reasons and (kept or not ids):
                ticket = by_path[source.path].ticket
                # What is stored at a second try may be what the first try committed before it ended.
                duplicates = [id for id in stored if id in kept] if tried[ticket] == 1 else []
                facts = json.dumps(duplicates) if duplicates else ""
                whole.append(Seen(_SPOOLED + ticket, "", facts, tuple(kept)))
        intake.links.write(seen=whole)
        for source, _, reasons, _ in finished:
            if reasons:
                spool.refuse(by_path[source.path], "; ".join(reasons))
            else:
                spool.done(by_path[source.path])

    intake.drops = drops
    intake.run([_source(entry, frames) for entry in entries], received=True, settled=settled)


def _source(entry: Entry, frames: "Frames") -> "Source":
    from medlike.imaging import Source

    return Source(
        str(entry.path), dict(entry.metadata), dict(entry.texts), dict(entry.identifiers), frames=frames
    )


def withdraw(spool: Spool, identity: "Identity", ids: Iterable[str], uids: Iterable[str], by_pixels: bool) -> None:
    """Delete the received files that wait and hold nothing but erased images; what cannot be read stays.

    A file that is missed here is dropped when its turn comes.

    Args:
        spool: The spool.
        identity: Gives images their ids.
        ids: Public ids of the erased images.
        uids: SOP instance UIDs of the erased images.
        by_pixels: Whether an image without a UID was erased: then every file that is no DICOM is read.
    """
    from medlike import imaging

    erased = set(ids)
    for entry in spool.holding(uids, others=by_pixels):
        try:
            images = imaging.load(_source(entry, "all"), "all", "process")
            held = {
                identity.public_id(image.identifiers.get("sop_uid") or None, image.frame, image.digest)
                for image in images
            }
        except Exception:  # whatever a decoder raises; the next drain gives the reason
            continue
        if held and held <= erased:
            spool.done(entry)
