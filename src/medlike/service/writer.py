"""The writer of an archive: the one process of the service that writes to it.

Two threads share the archive. One commits what was received, and removes images; the other does jobs, one at a time.
A long job lets the short writes go first between two groups of images, as it does for those of other processes.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Protocol

from medlike.archive.archive import Archive
from medlike.errors import ArchiveError, ArchiveFull, ArchiveLocked, MedlikeError, NothingAdded
from medlike.service import job_kinds, notes, standstill
from medlike.service.jobs import DEATHS, Job, Removal, State, queue_of
from medlike.service.wake import WakePipe, listening
from medlike.types import JsonObject

log = logging.getLogger("medlike.service.writer")
POLL = 1.0  # seconds after which the writer looks for work that nobody woke it for
WAIT = 5.0  # seconds to wait for a writer outside of the service, before trying again
GROUP = 256  # received files committed before removals have their turn
TOLD = 0.25  # seconds between two notes of progress
FITTED = 10.0  # seconds between two looks whether the archive is to be fitted again
GROWN = 1.25  # so many times as many images make the writer try a fit again that came to nothing
SECRETS = 100  # passphrases that are kept for jobs to come
_DIED = "the writer ended {} times while this job ran: submit it again if it was stopped from outside"
_BACKUP = "the writer ended while it wrote the backup: delete {}, then submit the job again"
_FORGOTTEN = "the passphrase was only in the memory of a writer that has ended since: submit the job again"

_UNEXPECTED = "the writer failed in an unexpected way ({}) and tries again: look into the log of the service"
_DAMAGED = "files were received that cannot be committed: run `medlike verify`"


class StopSign(Protocol):
    """What ends a writer: an event of `threading` or of `multiprocessing`."""

    def is_set(self) -> bool:
        """Return True if the writer is to end after the group of images at hand."""


class _JobCancelled(BaseException):
    """Ends a job that was cancelled."""


class _JobStopped(BaseException):
    """Ends a job because the writer ends; it is done later."""


class Writer:
    """Write to an open archive what the other processes of the service leave to be written.

    Make one for each archive. `step` does what there is to do, `run` does so until it is stopped.
    """

    def __init__(self, archive: Archive) -> None:
        """Take over what the last writer left.

        Args:
            archive: The archive, which the caller closes.
        """
        self.archive = archive
        self.queue = queue_of(archive.path)
        self._stack = ExitStack()
        self._pipe: WakePipe = self._stack.enter_context(listening(self.queue.path.parent))
        self._stop: StopSign = threading.Event()
        self._work = threading.Event()
        self._secrets: dict[str, str] = {}
        self._tidied: tuple[int, int] | None = None  # as of which state of the store notes were checked
        self._trouble = ""  # what was last logged
        self._grown = False  # whether images were committed since the writer last looked whether to fit
        self._look_again = 0.0  # when it looks next, by the monotonic clock
        self._enough = 0  # images from which it looks
        self._standstill = ""  # why received files wait, as it was last stated
        with suppress(ArchiveFull):
            standstill.make(self.queue.path.parent)
        self._left = 0  # received files that could not be committed, whatever was tried
        self._resume()

    def close(self) -> None:
        """Stop listening."""
        self._stack.close()

    def run(self, stop: StopSign) -> None:
        """Do what there is to do until the writer is stopped.

        Args:
            stop: Ends the writer after the group of images at hand.
        """
        self._stop = stop
        self._guarded(self._warm)
        worker = threading.Thread(target=self._jobs, name="medlike-jobs")
        worker.start()
        try:
            while not stop.is_set():
                self._listen()
                self._work.set()
                self._guarded(self.write)
                self._pipe.wait(POLL)
        finally:
            self._work.set()
            worker.join()

    def step(self) -> bool:
        """Commit what was received, remove what is to be removed, do one job; return whether there was any of it."""
        self._listen()
        wrote = self.write()
        return self.work() or wrote

    def write(self) -> bool:
        """Do all short writes that wait: removals first, then received files, a group at a time.

        Returns:
            Whether there was anything to do.

        Raises:
            MedlikeError: They cannot be done now, such as on a full disk; they go on waiting.
        """
        try:
            wrote = self._write()
        except MedlikeError as error:
            self._state(str(error))
            raise
        except Exception as error:
            self._state(_UNEXPECTED.format(type(error).__name__))
            raise
        self._state(_DAMAGED if self._left else "")
        return wrote

    def _write(self) -> bool:
        wrote = False
        while not self._stop.is_set():
            removals = self.queue.removals()
            for removal in removals:
                self._remove(removal)
            committed = self._drain()
            if not removals and not committed:
                break
            wrote = True
        self._tidy()
        return wrote

    def work(self) -> bool:
        """Do the oldest job that waits, or fit where that is due, and return whether there was one."""
        job = self.queue.begin() or self._due()
        if job is not None:
            self._do(job)
        return job is not None

    # Short writes

    def _drain(self) -> bool:
        waiting = self.archive.waiting()
        if waiting == self._left:
            return False
        try:
            # Fitting takes seconds: it is a job, so that what was received is there before it.
            report = self.archive.drain(limit=GROUP, wait=WAIT, fit="never")
        except ArchiveLocked as error:
            self._state(str(error))
            return True  # another writer is at work: once more
        progressed = bool(report.files or report.skipped)
        self._grown = self._grown or progressed
        # What stays although nothing was to be done is damage, which `verify` names.
        self._left = 0 if progressed else self.archive.waiting()
        return progressed

    def _remove(self, removal: Removal) -> None:
        if removal.report is None and removal.error is None and not self._carried_out(removal):
            return  # another writer is at work: it stays in the queue
        self.queue.settle(removal.number, purge=removal.erase)

    def _carried_out(self, removal: Removal) -> bool:
        ids = list(removal.ids)
        report: JsonObject | None = None
        failure: JsonObject | None = None
        paths: list[str] = []
        try:
            if removal.erase:
                paths = [str(source["path"]) for source in self.archive.sources(ids).values() if source.get("path")]
            report = asdict(self.archive.remove(ids, removal.erase, wait=WAIT))
        except ArchiveLocked as error:
            if any(self.archive.ids(id) for id in ids):
                return False
            failure = _facts(error)
        except MedlikeError as error:
            failure = _facts(error)
        if removal.erase and (report is not None or not any(self.archive.ids(id) for id in ids)):
            self._forget([*ids, *paths])
        self.queue.removed(removal.number, report, failure)
        return True

    def _forget(self, names: list[str]) -> None:
        """Leave no trace of erased images in what the service itself keeps.

        Args:
            names: Their public ids and paths.
        """
        self.queue.forget(names)
        self._tidy()

    def _tidy(self) -> None:
        """Drop notes that name erased images, whoever erased them."""
        state = (self.archive.path / "store.sqlite").stat().st_mtime_ns, self.archive.generation
        if state != self._tidied:
            with suppress(ArchiveLocked):  # a reader holds what was deleted: once more next time
                notes.forget(self.archive)
                self._tidied = state

    # Jobs

    def _jobs(self) -> None:
        while not self._stop.is_set():
            self._work.clear()
            while not self._stop.is_set() and self._guarded(self.work):
                pass
            self._work.wait(POLL)

    def _due(self) -> Job | None:
        """Return a job that fits the archive, if images were committed and it is due; it is listed like any other."""
        if not self._grown or time.monotonic() < self._look_again:
            return None
        self._grown, self._look_again = False, time.monotonic() + FITTED
        images = len(self.archive)
        reason = self.archive.fit_due() if images >= self._enough else None
        if reason is None:
            return None
        self._enough = 1 + int(GROWN * images)
        self.queue.submit("fit", {job_kinds.DUE: reason})
        return self.queue.begin()

    def _do(self, job: Job) -> None:
        last = 0.0

        def told(report: object) -> None:
            nonlocal last
            self._require_wanted(job)
            if time.monotonic() - last >= TOLD:
                # On a full disk the job itself says so.
                with suppress(ArchiveError):
                    self.queue.note(job.id, job_kinds.counts(report))
                last = time.monotonic()

        try:
            report = self._run(job, told)
        except _JobCancelled:
            self._end(job, "cancelled")
        except _JobStopped:
            self._end(job, "queued")
        except NothingAdded as error:
            self._end(job, "failed", job_kinds.ended(error.report), _facts(error))
        except MedlikeError as error:
            self._end(job, "failed", None, _facts(error))
        except Exception as error:
            log.exception("job %d failed in an unexpected way", job.id)
            detail = f"the job failed in an unexpected way ({type(error).__name__}): look for job {job.id} in the log"
            self._end(job, "failed", None, {"error": "MedlikeError", "detail": detail})
        else:
            self._end(job, "done", report)

    def _run(self, job: Job, told: Callable[[object], None]) -> object:
        arguments = dict(job.arguments)
        secret = arguments.pop("secret", None)
        if secret is not None:
            self._listen()
            if secret not in self._secrets:
                raise ArchiveError(_FORGOTTEN)
            arguments["passphrase"] = self._secrets.pop(secret)
        while True:
            self._require_wanted(job)
            try:
                return job_kinds.run(self.archive, job.kind, arguments, told, WAIT)
            except ArchiveLocked as error:
                if job.kind == "backup":
                    raise
                with suppress(ArchiveError):
                    self.queue.note(job.id, {"waiting": str(error)})

    def _require_wanted(self, job: Job) -> None:
        if self._stop.is_set():
            raise _JobStopped
        if self.queue.cancelled(job.id):
            raise _JobCancelled

    def _end(self, job: Job, state: State, report: object = None, error: JsonObject | None = None) -> None:
        """Note how a job ended. On a full disk this is tried until there is room, or the writer ends."""
        while True:
            try:
                self.queue.end(job.id, state, report, error)
                return
            except ArchiveError as trouble:
                log.warning("how job %d ended cannot be noted: %s", job.id, trouble)
                if self._stop.is_set():
                    return
                time.sleep(POLL)

    def _resume(self) -> None:
        for job in self.queue.after_death():
            if job.cancelling:
                self.queue.end(job.id, "cancelled")
            elif job.kind not in job_kinds.RESUMED:
                error = ArchiveError(_BACKUP.format(job.arguments.get("target")))
                self.queue.end(job.id, "failed", None, _facts(error))
            elif job.deaths >= DEATHS:
                self.queue.end(job.id, "failed", None, _facts(ArchiveError(_DIED.format(job.deaths))))
            else:
                self.queue.end(job.id, "queued")

    # Both

    def _listen(self) -> None:
        """Take what was handed over."""
        for message in self._pipe.messages():
            self._secrets[str(message.get("secret"))] = str(message.get("passphrase"))
        while len(self._secrets) > SECRETS:
            del self._secrets[next(iter(self._secrets))]

    def _state(self, reason: str) -> None:
        """State why received files and removals wait, for those who ask for them; empty if they do not."""
        if reason != self._standstill:
            standstill.state(self.queue.path.parent, reason)
            self._standstill = reason

    def _warm(self) -> bool:
        """Load what the first upload needs, so that it does not take longer than others."""
        with self.archive.session() as session:
            _ = session.loaded.encoder, session.loaded.text_encoder, session.loaded.identity
        return True

    def _guarded(self, task: Callable[[], bool]) -> bool:
        """Do a task; whatever it ends in, the writer lives on."""
        try:
            return task()
        except MedlikeError as error:
            if str(error) != self._trouble:  # a full disk is met again with every try
                log.warning("%s: %s", self.archive.path, error)
            self._trouble = str(error)
        except Exception:
            log.exception("%s: the writer goes on after an unexpected error", self.archive.path)
        return False


def _facts(error: MedlikeError) -> JsonObject:
    return {"error": type(error).__name__, "detail": str(error)}
