"""The queue of an archive's writer: jobs and removals, stored durably until they are done.

They lie in private/service/jobs.sqlite. Whoever submits one may rely on it once the call returns. Only the writer
takes work from the queue; every process may submit, look and cancel. Times are for people: nothing is decided by them.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from medlike import files as durable
from medlike import strict_json
from medlike.archive.storage.database import Database, log_emptied, storage_errors, transaction
from medlike.archive.storage.lock import locked
from medlike.types import Json, JsonObject

FOLDER = "service"  # in the private folder of an archive
FILE = "jobs.sqlite"
Kind = Literal["index", "reindex", "fit", "compact", "backup", "verify", "upgrade"]
State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
WHOLE = ("compact", "backup", "verify")  # kinds that run to their end once they run
DEATHS = 2  # after so many, a job that the writer dies of is given up
KEPT = 1000  # removals that are done and stay for those who wait for them
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs(
    job INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, arguments TEXT NOT NULL, state TEXT NOT NULL,
    progress TEXT, report TEXT, error TEXT, deaths INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 1, submitted REAL NOT NULL, started REAL, ended REAL);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs(state, job);
CREATE TABLE IF NOT EXISTS removals(
    removal INTEGER PRIMARY KEY AUTOINCREMENT, ids TEXT, erase INTEGER NOT NULL, report TEXT, error TEXT,
    done INTEGER NOT NULL DEFAULT 0);
"""
_JOB = "job, kind, arguments, state, progress, report, error, deaths, cancel, version, submitted, started, ended"


@dataclass(frozen=True)
class Job:
    """A job as the queue holds it.

    Attributes:
        id: Its number; jobs are run in the order of their numbers.
        kind: What it does.
        arguments: How, as submitted.
        state: "queued", "running", "done", "failed" or "cancelled".
        progress: Counts so far, None before the first.
        report: What it did, once it has ended.
        error: Why it failed: the class of the exception as `error`, its text as `detail`.
        deaths: How often the writer died while the job ran.
        cancelling: True if the job is to end after the group of images at hand.
        version: A number that each change raises.
        times: When it was submitted, started and ended, seconds since 1970; None for what has not happened.
    """

    id: int
    kind: Kind
    arguments: JsonObject
    state: State
    progress: JsonObject | None
    report: Json
    error: JsonObject | None
    deaths: int
    cancelling: bool
    version: int
    times: tuple[float, float | None, float | None]

    def to_dict(self, report: bool = True) -> JsonObject:
        """Return the job as JSON holds it.

        Args:
            report: If false, leave out the report, which may be long.
        """
        submitted, started, ended = self.times
        return {
            "id": self.id, "kind": self.kind, "state": self.state, "arguments": self.arguments,
            "progress": self.progress, **({"report": self.report} if report else {}), "error": self.error,
            "cancelling": self.cancelling, "version": self.version, "deaths": self.deaths,
            "submitted": submitted, "started": started, "ended": ended,
        }  # fmt: skip


@dataclass(frozen=True)
class Removal:
    """A removal as the queue holds it.

    Attributes:
        number: Its number.
        ids: The public ids; none once it was carried out.
        erase: True if nothing of the images may stay.
        done: True once it was carried out or has failed, and nothing of erased images is left in the queue.
        report: What it did, as a RemovalReport.
        error: Why it failed, as for a job.
    """

    number: int
    ids: tuple[str, ...]
    erase: bool
    done: bool
    report: JsonObject | None
    error: JsonObject | None


class Queue(Database):
    """The queue of one archive. Safe to use from many threads and processes."""

    def __init__(self, private: Path) -> None:
        """Open the queue, and make it if it is missing.

        Args:
            private: The private folder of the archive.

        Raises:
            ArchiveError: It cannot be made, or is damaged.
        """
        folder = private / FOLDER
        durable.make_folder(folder, 0o700)
        super().__init__(folder / FILE)
        with locked(folder / "jobs.lock"):
            try:
                self._make()
            except BaseException:
                # On a full disk: no file is left that holds nothing.
                self.close()
                if self.path.exists() and not self.path.stat().st_size:
                    self.path.unlink()
                raise
        durable.sync_folders([folder])

    def _make(self) -> None:
        """Make the file and its tables where they are missing."""
        if not self.path.exists():
            with durable.disk_errors(self.path):
                os.close(durable.create(self.path, 0o600, 0))
        with storage_errors(self.path):
            self.connection.execute("PRAGMA journal_mode=WAL")
            self.connection.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with storage_errors(self.path), transaction(self.connection):
            yield

    # Jobs

    def submit(self, kind: Kind, arguments: Mapping[str, Json]) -> Job:
        """Store a job durably, and return it.

        Args:
            kind: What it does.
            arguments: Checked arguments.

        Raises:
            ArchiveFull: The disk is full.
        """
        assert kind in get_args(Kind)
        with self._transaction():
            sql = "INSERT INTO jobs(kind, arguments, state, submitted) VALUES (?, ?, 'queued', ?)"
            text = json.dumps(dict(arguments), ensure_ascii=False)
            number = self.connection.execute(sql, (kind, text, time.time())).lastrowid
        job = self.job(number or 0)
        assert job is not None
        return job

    def job(self, id: int) -> Job | None:
        """Return a job, None if there is none of this number."""
        row = self.first(f"SELECT {_JOB} FROM jobs WHERE job = ?", (id,))
        return None if row is None else _job(row)

    def jobs(self, limit: int, offset: int = 0) -> tuple[list[Job], int]:
        """Return jobs, the newest first, and how many there are.

        Args:
            limit: How many to return.
            offset: How many to skip.
        """
        rows = self.query(f"SELECT {_JOB} FROM jobs ORDER BY job DESC LIMIT ? OFFSET ?", (limit, offset))
        return [_job(row) for row in rows], self.number("SELECT count(*) FROM jobs")

    def version(self, id: int) -> int:
        """Return the version of a job, 0 if there is none."""
        return self.number("SELECT version FROM jobs WHERE job = ?", (id,))

    def cancel(self, id: int) -> Job | None:
        """Cancel a job: one that waits ends now, one that runs after the group of images at hand; one that ended stays.

        So does one that runs and is of a kind in `WHOLE`.

        Returns:
            The job afterwards, None if there is none.
        """
        with self._transaction():
            connection = self.connection
            waiting = "state = 'cancelled', ended = ?, version = version + 1 WHERE job = ? AND state = 'queued'"
            connection.execute(f"UPDATE jobs SET {waiting}", (time.time(), id))
            running = "cancel = 1, version = version + 1 WHERE job = ? AND state = 'running' AND NOT cancel"
            sql = f"UPDATE jobs SET {running} AND kind NOT IN ({', '.join('?' * len(WHOLE))})"
            connection.execute(sql, (id, *WHOLE))
        return self.job(id)

    def cancelled(self, id: int) -> bool:
        """Return True if a running job is to end."""
        return bool(self.number("SELECT cancel FROM jobs WHERE job = ?", (id,)))

    def begin(self) -> Job | None:
        """Return the oldest job that waits, which runs from now on; None if none waits."""
        if not self.number("SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued')"):
            return None
        with self._transaction():
            row = self.connection.execute("SELECT min(job) FROM jobs WHERE state = 'queued'").fetchone()
            sql = "UPDATE jobs SET state = 'running', started = ?, version = version + 1 WHERE job = ?"
            self.connection.execute(sql, (time.time(), row[0]))
        return None if row[0] is None else self.job(row[0])

    def note(self, id: int, progress: Mapping[str, Json]) -> None:
        """Store the progress of a running job."""
        text = json.dumps(dict(progress), ensure_ascii=False)
        self.query("UPDATE jobs SET progress = ?, version = version + 1 WHERE job = ?", (text, id))

    def end(self, id: int, state: State, report: Json = None, error: Mapping[str, Json] | None = None) -> None:
        """End a running job, or put it back where it was with "queued".

        Args:
            id: The job.
            state: Its state from now on.
            report: What it did.
            error: Why it failed.
        """
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in (report, error)]
        ended = time.time() if state in ENDED else None
        sql = "UPDATE jobs SET state = ?, report = ?, error = ?, ended = ?, version = version + 1 WHERE job = ?"
        self.query(sql, (state, *texts, ended, id))

    def after_death(self) -> list[Job]:
        """Return the jobs that ran when the last writer died, each with that death counted."""
        with self._transaction():
            sql = "UPDATE jobs SET deaths = deaths + 1, version = version + 1 WHERE state = 'running'"
            self.connection.execute(sql)
        return [_job(row) for row in self.query(f"SELECT {_JOB} FROM jobs WHERE state = 'running' ORDER BY job")]

    # Removals

    def remove(self, ids: list[str], erase: bool) -> int:
        """Store a removal durably, and return its number.

        Args:
            ids: Public ids.
            erase: If true, nothing of the images may stay.
        """
        with self._transaction():
            sql = "INSERT INTO removals(ids, erase) VALUES (?, ?)"
            number = self.connection.execute(sql, (json.dumps(ids), int(erase))).lastrowid
        return number or 0

    def removal(self, number: int) -> Removal | None:
        """Return a removal, None if there is none of this number any more."""
        sql = "SELECT removal, ids, erase, done, report, error FROM removals WHERE removal = ?"
        row = self.first(sql, (number,))
        return None if row is None else _removal(row)

    def removals(self) -> list[Removal]:
        """Return the removals that wait, in their order."""
        sql = "SELECT removal, ids, erase, done, report, error FROM removals WHERE NOT done ORDER BY removal"
        return [_removal(row) for row in self.query(sql)]

    def removed(self, number: int, report: JsonObject | None, error: JsonObject | None) -> None:
        """Note what a removal did, and forget which ids it named; it is not done before `settle`.

        Args:
            number: The removal.
            report: What it did.
            error: Why it failed.
        """
        texts = [None if value is None else json.dumps(value) for value in (report, error)]
        self.query("UPDATE removals SET ids = NULL, report = ?, error = ? WHERE removal = ?", (*texts, number))

    def settle(self, number: int, purge: bool) -> None:
        """Note that a removal is done, which those who wait for it then see.

        Args:
            number: The removal.
            purge: If true, first leave nothing of what was deleted in the file and its log.
        """
        if purge:
            with storage_errors(self.path):
                self.connection.execute("VACUUM")
                log_emptied(self.connection, patience=5.0)
        with self._transaction():
            self.connection.execute("UPDATE removals SET done = 1 WHERE removal = ?", (number,))
            self.connection.execute("DELETE FROM removals WHERE done AND removal <= ?", (number - KEPT,))

    def forget(self, names: list[str]) -> None:
        """Leave no trace of erased images in jobs that have ended: their arguments and reports go.

        Args:
            names: Public ids and paths of the images.
        """
        for job, *texts in self.query(
            "SELECT job, arguments, progress, report, error FROM jobs WHERE state IN ('done', 'failed', 'cancelled')"
        ):
            said = " ".join(text for text in texts if text)
            if any(json.dumps(name, ensure_ascii=False)[1:-1] in said for name in names):
                sql = "UPDATE jobs SET arguments = '{}', progress = NULL, report = NULL, error = NULL WHERE job = ?"
                self.query(sql, (job,))


@lru_cache(maxsize=64)
def queue_of(archive: Path) -> Queue:
    """Return the queue of an archive; a process has one for each archive.

    Args:
        archive: The folder of the archive.
    """
    return Queue(archive / "private")


def _job(row: tuple[Json, ...]) -> Job:
    id, kind, arguments, state, progress, report, error, deaths, cancel, version, *times = row
    submitted, started, ended = times
    return Job(
        id, kind, strict_json.loads(arguments), state, _read(progress), _read(report), _read(error), deaths,
        bool(cancel), version, (submitted, started, ended),
    )  # fmt: skip


def _removal(row: tuple[Json, ...]) -> Removal:
    number, ids, erase, done, report, error = row
    return Removal(number, tuple(_read(ids) or ()), bool(erase), bool(done), _read(report), _read(error))


def _read(text: str | None) -> Json:
    return None if text is None else strict_json.loads(text)
