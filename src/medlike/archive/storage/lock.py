"""The writer's lock: one writer at a time, in this process or another; readers need none."""

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medlike.errors import ArchiveLocked
from medlike.files import create, disk_errors, sync_folders

FILE = "writer.lock"


class WriterLock:
    """The lock of one open archive; re-entrant within the thread that holds it.

    The file names its holder while it is held and is empty otherwise, so that whoever takes the lock after a
    crash knows that there is something to clean up.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._depth = 0
        self._clean = True
        self._descriptor = -1
        self._thread = threading.RLock()

    def state(self) -> str:
        """ "free", "held" by a writer, or "died": the last writer did not release it. Takes nothing."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return "free"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "died" if os.fstat(descriptor).st_size else "free"
        except OSError:
            return "held"
        finally:
            os.close(descriptor)

    def take(self) -> bool:
        """Take the lock; true where the last holder died without releasing it. Raises ArchiveLocked."""
        if not self._thread.acquire(blocking=False):
            raise ArchiveLocked(f"{self.path.parent} is being written by another thread of this process")
        if self._depth:
            self._depth += 1
            return False
        try:
            return self._take()
        except BaseException:
            self._thread.release()
            raise

    def release(self, clean: bool) -> None:
        """Give the lock back, once for each time it was taken; unless `clean`, the next holder cleans up."""
        self._clean = self._clean and clean
        self._depth -= 1
        try:
            if not self._depth:
                try:
                    if self._clean:
                        with disk_errors(self.path):
                            os.ftruncate(self._descriptor, 0)
                finally:
                    os.close(self._descriptor)
        finally:
            self._thread.release()

    def _take(self) -> bool:
        with disk_errors(self.path):
            descriptor = create(self.path, flags=os.O_NOFOLLOW)
            try:
                died = self._claim(descriptor)
            except BaseException:
                # Closing releases the lock: an error here, such as a full disk, must not outlive the call.
                os.close(descriptor)
                raise
        self._descriptor, self._depth, self._clean = descriptor, 1, True
        return died

    def _claim(self, descriptor: int) -> bool:
        """Lock the open file and write the holder's name into it; true where it names one that died."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise ArchiveLocked(
                f"{self.path.parent} is being written by {holder}: wait until it is done, or stop it"
            ) from error
        died = os.fstat(descriptor).st_size > 0
        name = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        # In this order a full disk leaves the file as it is: empty, or with the name of the holder that died.
        os.pwrite(descriptor, name, 0)
        os.ftruncate(descriptor, len(name))
        # A power cut must not hide that there was a writer.
        os.fsync(descriptor)
        sync_folders([self.path.parent])
        return died


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a file for a while; waits until whoever has it lets go."""
    with disk_errors(path):
        descriptor = create(path, flags=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
