"""Waking the writer of an archive: a named pipe in private/service, which any process of the service writes to.

An empty line says that there is work. A line of JSON hands over what may not be stored, such as a passphrase: it is
never on the disk. What is sent while no writer listens is lost; the writer looks for work by itself when it starts.
"""

import errno
import json
import os
import select
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medlike import files as durable
from medlike import strict_json
from medlike.types import JsonObject

FILE = "wake"
LONGEST = min(select.PIPE_BUF, 4096)  # bytes of a line: longer ones could be mixed with those of others


def wake(folder: Path, message: JsonObject | None = None) -> bool:
    """Wake the writer, and return whether one listens.

    Args:
        folder: The folder `private/service` of the archive.
        message: What to hand over.

    Raises:
        ValueError: The message is longer than `LONGEST`.
    """
    line = b"\n" if message is None else json.dumps(message, ensure_ascii=False).encode() + b"\n"
    if len(line) > LONGEST:
        raise ValueError(f"a message has {len(line)} bytes, at most {LONGEST} fit")
    try:
        pipe = os.open(folder / FILE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            return False
        os.write(pipe, line)
    except BlockingIOError:
        return message is None  # so many lines wait that the writer is awake
    finally:
        os.close(pipe)
    return True


class WakePipe:
    """The writer's end of the pipe."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._rest, self._lock = pipe, b"", threading.Lock()

    def wait(self, seconds: float) -> None:
        """Return as soon as somebody wakes the writer, at the latest after some seconds."""
        select.select([self._pipe], [], [], seconds)

    def messages(self) -> Iterator[JsonObject]:
        """Yield what was handed over since the last call; do not wait."""
        with self._lock:
            try:
                while data := os.read(self._pipe, 1 << 16):
                    self._rest += data
            except BlockingIOError:
                pass
            *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            # What is no object was not sent by `wake`.
            with suppress(ValueError):
                value = strict_json.loads(line.decode())
                if isinstance(value, dict):
                    yield value


@contextmanager
def listening(folder: Path) -> Iterator[WakePipe]:
    """Yield the writer's end of the pipe, which is made if it is missing.

    Args:
        folder: The folder `private/service` of the archive.
    """
    path = folder / FILE
    with durable.disk_errors(path):
        if os.path.lexists(path) and not stat.S_ISFIFO(path.lstat().st_mode):
            path.unlink()
        if not os.path.lexists(path):
            os.mkfifo(path, 0o600)
        # Open to write as well: then it never ends, whoever comes and goes.
        pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield WakePipe(pipe)
    finally:
        os.close(pipe)
