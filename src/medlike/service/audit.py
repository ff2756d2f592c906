"""Who saw where images came from: one line of JSON for each request that showed it."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medlike import files as durable
from medlike.archive.viewer import Private
from medlike.errors import ArchiveError
from medlike.service.collections import Role

FILE = "access.log"
LARGEST = 16 << 20  # bytes; a larger file becomes access.log.1, in place of the one before


@dataclass(frozen=True)
class Audited:
    """The owner, whose readings of sources are recorded.

    Attributes:
        log: The file.
        request_id: The id of the request.
        role: Who sent it.
    """

    log: Path
    request_id: str
    role: Role

    def may(self, what: Private) -> bool:
        """Return True."""
        return True

    def saw(self, what: Private, names: Sequence[str]) -> None:
        """Record what is about to be shown.

        Raises:
            ArchiveError: The log cannot be written; then nothing is shown.
        """
        if what != "filters":
            record(self.log, self.request_id, self.role, what, names)


def log_of(archive: Path) -> Path:
    """Return the log of an archive's folder."""
    return archive / "private" / "service" / FILE


def record(log: Path, request_id: str, role: Role, what: Private, ids: Sequence[str]) -> None:
    """Append a line to a log: when, by which request, by whom, and which images.

    Args:
        log: The file; it is made where it is missing.
        request_id: The id of the request.
        role: Who sent it.
        what: What was shown.
        ids: Public ids of the images.

    Raises:
        ArchiveError: The log cannot be written.
    """
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"time": stamp, "request": request_id, "role": role, "shown": what, "ids": list(ids)}
    with _locked(log) as descriptor:
        os.lseek(descriptor, 0, os.SEEK_END)
        os.write(descriptor, json.dumps(line).encode() + b"\n")


def forget(log: Path, gone: Sequence[str]) -> None:
    """Replace ids of erased images in a log by the word erased; that something was shown stays recorded.

    Args:
        log: The file.
        gone: The ids.
    """
    for path in (log, log.with_name(f"{FILE}.1")):
        if not gone or not path.exists():
            continue
        with _locked(path, rotates=False) as descriptor:
            text = durable.read(path)
            for id in gone:
                text = text.replace(json.dumps(id).encode(), b'"erased"')
            os.pwrite(descriptor, text, 0)
            os.ftruncate(descriptor, len(text))


def shown(log: Path) -> set[str]:
    """Return the ids in a log."""
    ids: set[str] = set()
    for path in (log, log.with_name(f"{FILE}.1")):
        if path.exists():
            for line in durable.read(path).splitlines():
                ids.update(id for id in json.loads(line)["ids"] if id != "erased")
    return ids


@contextmanager
def _locked(log: Path, rotates: bool = True) -> Iterator[int]:
    """Open a log to append, alone among all processes; a full one is set aside first."""
    durable.make_folder(log.parent, 0o700)
    try:
        while True:
            descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                state = os.fstat(descriptor)
                if not log.exists() or log.stat().st_ino != state.st_ino:
                    continue  # another process has just set it aside
                if rotates and state.st_size > LARGEST:
                    durable.move(log, log.with_name(f"{FILE}.1"))
                    continue
                yield descriptor
                return
            finally:
                os.close(descriptor)
    except OSError as error:
        reason = f"{log} cannot be written ({error.strerror}): nothing private is shown without it; check the disk"
        raise ArchiveError(reason) from error
