"""Why the writer of an archive cannot write now, for those who wait for it: one sentence in a small file.

The file keeps its size and is overwritten in place, so that it can be written on a full disk.
"""

import os
from contextlib import suppress
from pathlib import Path

from medlike import files as durable
from medlike.service.jobs import FOLDER
from medlike.service.wake import wake

FILE = "standstill"
SIZE = 1000  # bytes of the sentence; a longer one is cut off
NO_WRITER = "the writer of this archive does not run now: the service starts it again"


def make(folder: Path) -> None:
    """Make the file where it is missing, and say that nothing stands still.

    Args:
        folder: The folder `private/service` of the archive.

    Raises:
        ArchiveFull: The disk is full.
    """
    path = folder / FILE
    durable.require_plain(path)
    with durable.disk_errors(path):
        descriptor = durable.create(path, durable.PRIVATE, os.O_NOFOLLOW)
        try:
            os.pwrite(descriptor, bytes(SIZE), 0)
        finally:
            os.close(descriptor)


def state(folder: Path, reason: str) -> None:
    """State why nothing is written; what cannot be stated is left out.

    Args:
        folder: The folder `private/service` of the archive.
        reason: A sentence; empty if the writer goes on.
    """
    text = reason.encode()[:SIZE].decode(errors="ignore").encode()
    with suppress(OSError):
        descriptor = os.open(folder / FILE, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, text.ljust(SIZE, b"\0"), 0)
        finally:
            os.close(descriptor)


def reason(folder: Path) -> str:
    """Return why nothing is written; empty if the writer goes on.

    Args:
        folder: The folder `private/service` of the archive.
    """
    try:
        with (folder / FILE).open("rb") as file:
            return file.read(SIZE).rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""


def waiting(archive: Path) -> dict[str, str]:
    """Return why received files wait, as the member `waiting` of an answer; nothing if they are under way.

    Args:
        archive: The folder of the archive.
    """
    folder = archive / "private" / FOLDER
    text = reason(folder) if wake(folder) else NO_WRITER
    return {"waiting": text} if text else {}
