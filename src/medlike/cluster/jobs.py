"""The work that a service does by itself: jobs as flows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from medlike import errors
from medlike.archive.intake.reindex import ReindexReport
from medlike.archive.storage.backup import BackupReport
from medlike.archive.storage.fits import FitReport
from medlike.archive.storage.upkeep import CompactReport
from medlike.archive.storage.verify import Problem
from medlike.cluster import reports
from medlike.cluster.exchange import Call, Flow, Pause, asked
from medlike.errors import ArchiveError, MedlikeError
from medlike.types import Json, JsonObject, Progress, Report

ENDED = ("done", "failed", "cancelled")
FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0  # seconds between two looks at a job
PAGE = 100


@dataclass(frozen=True)
class RemoteJob:
    """Work that a service does or did.

    Attributes:
        id: Its number; jobs run in the order of their numbers.
        kind: "index", "reindex", "fit", "compact", "backup", "verify" or "upgrade".
        state: "queued", "running", "done", "failed" or "cancelled".
        arguments: How it was asked for.
        progress: Counts so far, None before the first.
        report: What it did, once it has ended.
        error: Why it failed: the name of the exception as "error", its text as "detail".
    """

    id: int
    kind: str
    state: str
    arguments: JsonObject
    progress: JsonObject | None = None
    report: Json = None
    error: JsonObject | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Json]) -> "RemoteJob":
        """Return the job that a service describes.

        Args:
            facts: Its description.
        """
        return cls(
            facts["id"], facts["kind"], facts["state"], facts["arguments"], facts.get("progress"),
            facts.get("report"), facts.get("error"),
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Return True if it is done, has failed or was cancelled."""
        return self.state in ENDED

    def require_done(self) -> None:
        """Raise the exception that ended it, if one did.

        Raises:
            MedlikeError: It failed or was cancelled.
        """
        if self.state == "cancelled":
            raise ArchiveError(f"job {self.id} ({self.kind}) was cancelled: start it again to go on")
        if self.state == "failed":
            facts = self.error or {}
            kind = getattr(errors, str(facts.get("error")), ArchiveError)
            known = isinstance(kind, type) and issubclass(kind, MedlikeError)
            detail = str(facts.get("detail") or f"job {self.id} ({self.kind}) failed")
            raise (kind.__new__(kind, detail) if known else ArchiveError(detail))


Watch = Callable[[RemoteJob], None]


def start(kind: str, arguments: Mapping[str, Json]) -> Flow[RemoteJob]:
    """Start a job. It is not sent again if the answer is lost: the service may have it already."""
    body = {"kind": kind, **{name: value for name, value in arguments.items() if value is not None}}
    reply = yield from asked(Call("POST", "jobs", json=body))
    return RemoteJob.of(reply.json())


def look(id: int) -> Flow[RemoteJob]:
    """Return a job as it is now."""
    reply = yield from asked(Call("GET", f"jobs/{int(id)}", repeatable=True))
    return RemoteJob.of(reply.json())


def cancel(id: int) -> Flow[RemoteJob]:
    """Cancel a job: one that runs ends after the group of images at hand."""
    reply = yield from asked(Call("DELETE", f"jobs/{int(id)}", repeatable=True))
    return RemoteJob.of(reply.json())


def listed(limit: int, offset: int) -> Flow[list[RemoteJob]]:
    """List jobs, the newest first."""
    params = (("limit", str(limit)), ("offset", str(offset)))
    reply = yield from asked(Call("GET", "jobs", params, repeatable=True))
    return [RemoteJob.of(each) for each in reply.json()["jobs"]]


def wait(id: int, watch: Watch | None) -> Flow[RemoteJob]:
    """Wait for the end of a job, and return it. It is looked at more and more seldom, once a second at last."""
    pause = FIRST_LOOK
    while True:
        job = yield from look(id)
        if watch is not None:
            watch(job)
        if job.ended:
            return job
        yield Pause(pause)
        pause = min(1.5 * pause, LONGEST_LOOK)


def done(
    kind: str,
    arguments: Mapping[str, Json],
    read: Callable[[JsonObject], Report] | None = None,
    progress: Progress[Report] | None = None,
) -> Flow[JsonObject]:
    """Do a job to its end, and return its report.

    Args:
        kind: What it does.
        arguments: How.
        read: Returns the report so far of the counts of a job.
        progress: Called with it.

    Raises:
        MedlikeError: It failed, as the verb of an archive would, or was cancelled.
    """

    def watch(job: RemoteJob) -> None:
        if progress is not None and read is not None and job.progress is not None:
            progress(read(job.progress))

    job = yield from start(kind, arguments)
    job = yield from wait(job.id, watch)
    job.require_done()
    return dict(job.report or {})


def fit(bits: int | None, progress: Progress[FitReport] | None, labels: str | None) -> Flow[FitReport]:
    """Fit codes to the archive's images."""
    facts = yield from done("fit", {"bits": bits, "labels": labels}, reports.fit_report, progress)
    return reports.fit_report(facts)


def reindex(
    bundle: str | None, progress: Progress[ReindexReport] | None, drop_lost: bool, text_bundle: str | None
) -> Flow[ReindexReport]:
    """Encode every image under another bundle, or rebuild the indexes."""
    arguments = {"bundle": bundle, "text_bundle": text_bundle, "drop_lost": drop_lost or None}
    facts = yield from done("reindex", arguments, reports.reindex_report, progress)
    return reports.reindex_report(facts)


def compact() -> Flow[CompactReport]:
    """Delete removed images for good."""
    facts = yield from done("compact", {})
    return reports.made(CompactReport, facts)


def verify() -> Flow[list[Problem]]:
    """Check every part of the archive."""
    facts = yield from done("verify", {})
    return [reports.made(Problem, each) for each in facts["problems"]]


def backup(target: str, links: bool, passphrase: str | None, with_id_key: bool) -> Flow[BackupReport]:
    """Copy the archive into a folder of the service's machine."""
    arguments = {
        "target": target, "links": links or None, "passphrase": passphrase, "with_id_key": with_id_key or None,
    }  # fmt: skip
    facts = yield from done("backup", arguments)
    return reports.made(BackupReport, facts)
