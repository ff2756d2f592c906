"""Adding and removing images: uploads with their tickets, and removals, as flows."""

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medlike.archive.intake.report import AddReport
from medlike.archive.storage.removal import RemovalReport
from medlike.cluster.exchange import Call, Flow, Form, Upload, asked, compact_json
from medlike.cluster.failures import failure
from medlike.cluster.reports import fit_report
from medlike.errors import ArchiveError
from medlike.imaging.discovery import discover
from medlike.imaging.source import Source
from medlike.types import Json, Progress

WAIT = 30  # seconds that the service holds back the answer about a ticket
WAITING = 64  # files that were received, and are not yet asked after
BATCH = 1000  # images that are removed at once
REMOVAL = 60  # seconds that the service waits for its writer
_ID = re.compile(r"[0-9a-f]{32}")
#: Statuses that refuse one file; all others end the upload.
REFUSED = (400, 413, 415, 422)


@dataclass
class _Uploading:
    """An upload under way."""

    report: AddReport
    tickets: deque[tuple[str, str]] = field(default_factory=deque)  # path, ticket
    ids: set[str] = field(default_factory=set)

    def settle(self, path: str, ticket: Mapping[str, Json]) -> None:
        """Count what became of a file."""
        self.report.files += 1
        if ticket["state"] == "refused":
            self.report.skipped.append((path, str(ticket["reason"])))
            return
        new = [id for id in ticket["ids"] if id not in self.ids]
        self.ids.update(new)
        unchanged = set(ticket.get("duplicates", ()))
        self.report.unchanged += sum(id in unchanged for id in new)
        self.report.added += sum(id not in unchanged for id in new)


def add(
    sources: Iterable[str | Path] | str | Path,
    progress: Progress[AddReport] | None,
    sent: Callable[[int], None] | None,
    url: str,
) -> Flow[AddReport]:
    """Upload the files that folders, globs, files and manifests name, and wait until they are indexed or refused."""
    began = time.monotonic()
    under_way = _Uploading(AddReport())
    report = under_way.report

    def told() -> None:
        if progress is not None:
            progress(report)

    given = [sources] if isinstance(sources, str | Path) else sources
    for source in discover(given, passed_over=report.archives.append):
        for column, cell in source.dropped.items():
            count, first = report.dropped.get(column, (0, cell))
            report.dropped[column] = (count + 1, first)
        ticket = yield from _sent(source, report, sent, url)
        if ticket is None:
            report.files += 1
            told()
            continue
        report.texts += len(source.texts)
        under_way.tickets.append((source.path, ticket))
        if len(under_way.tickets) > WAITING:
            yield from _settled(under_way, url)
            told()
    while under_way.tickets:
        yield from _settled(under_way, url)
        told()
    reply = yield from asked(Call("GET", "archive", repeatable=True))
    report.generation = int(reply.json()["generation"])
    report.seconds["total"] = time.monotonic() - began
    report.require_some()
    return report


def _sent(
    source: Source, report: AddReport, sent: Callable[[int], None] | None, url: str
) -> Flow[str | None]:
    """Upload a file and return its ticket; None if it is refused."""
    reason = source.problem
    if reason is None:
        try:
            reply = yield from asked(upload_call(source, sent))
        except OSError as error:
            reason = f"it cannot be read: {error.strerror or error}"
        else:
            if reply.status not in REFUSED:
                return str(reply.json()["tickets"][0])
            reason = str(failure(reply, url))
    report.skipped.append((source.path, reason))
    return None


def upload_call(source: Source, sent: Callable[[int], None] | None = None) -> Call:
    """Return the request that uploads a file.

    It may be sent again if the connection breaks: ids come from the SOP instance UID or the pixels, so a file that is
    received twice is stored once.

    Args:
        source: The file, and what a manifest says of it.
        sent: Called with the number of bytes of each piece.
    """
    path = Path(source.path)
    facts = (("metadata", source.metadata), ("texts", source.texts), ("identifiers", source.identifiers))
    form: Form = (
        *((name, compact_json(values)) for name, values in facts if values),
        ("file", Upload(path, path.name, sent)),
    )
    return Call("POST", "images", form=form, repeatable=True, expected=REFUSED)


def _settled(under_way: _Uploading, url: str) -> Flow[None]:
    """Wait for the oldest ticket, and count what became of it."""
    path, ticket = under_way.tickets.popleft()
    while True:
        call = Call("GET", f"tickets/{ticket}", (("wait", str(WAIT)),), repeatable=True, seconds=WAIT)
        reply = yield from asked(call)
        facts = reply.json()
        if facts["state"] != "received":
            under_way.settle(path, facts)
            return


def remove(ids: Sequence[str], erase: bool) -> Flow[RemovalReport]:
    """Remove images, as many at once as a request takes, and add up the reports.

    Raises:
        ArchiveError: The service is busy; it does later what was asked.
    """
    total = RemovalReport()
    given = list(dict.fromkeys(ids))
    known = [id for id in given if _ID.fullmatch(id)]
    for first in range(0, len(known), BATCH):
        body = {"ids": known[first : first + BATCH], "erase": erase}
        reply = yield from asked(Call("POST", "removals", json=body, seconds=REMOVAL))
        if reply.status == 202:
            raise ArchiveError("the service is busy with another write: it removes these images after it")
        facts = reply.json()
        total.removed += facts["removed"]
        total.erased += facts["erased"]
        total.unknown += facts["unknown"]
        total.generation = facts["generation"]
        if facts.get("fit") is not None:
            total.fit = fit_report(facts["fit"])
    found = set(known) - set(total.unknown)
    total.unknown = [id for id in given if id not in found]
    return total
