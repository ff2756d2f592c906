"""The writer's lock: one writer at a time, in this process or another; readers need none."""

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medlike.errors import ArchiveLocked
from medlike.files import create, disk_errors, sync_files, sync_folders

FILE = "writer.lock"
WAITING = "writer.waiting"
POLL = 0.02  # seconds between two looks at a lock that another process holds
_ADVICE = "wait until it is done (wait=SECONDS, or --wait SECONDS on the command line), or stop it"


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
        self._queue = folder / WAITING
        self._waiting = 0  # short writes of other threads of this process
        self._counting = threading.Lock()

    def state(self) -> str:
        """Return "free", "held" by a writer, or "died" if the last writer did not release it. Takes nothing."""
        try:
            descriptor = _opened(self.path)
        except FileNotFoundError:
            return "free"
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return "died" if os.fstat(descriptor).st_size else "free"
        except OSError:
            return "held"
        finally:
            os.close(descriptor)

    def take(self, timeout: float = 0.0, short: bool = False) -> bool:
        """Take the lock.

        Args:
            timeout: Seconds to wait for another writer.
            short: Whether the write is short, so that a long one gives way to it (see `give_way`).

        Returns:
            Whether the last holder died without releasing it: then there is something to clean up.

        Raises:
            ArchiveLocked: Another thread or process still holds it.
        """
        until = time.monotonic() + timeout
        with self._announced(short and timeout > 0):
            if not self._thread.acquire(timeout=max(timeout, 0.0)):
                raise ArchiveLocked(
                    f"{self.path.parent} is being written by another thread of this process: {_ADVICE}"
                )
            if self._depth:
                self._depth += 1
                return False
            try:
                return self._take(until)
            except BaseException:
                self._thread.release()
                raise

    def give_way(self) -> bool | None:
        """Let short writes that wait go first, between two groups of a long one.

        Returns:
            None where nobody waits and nothing was released; else what `take` returned afterwards.
        """
        if self._depth != 1 or not self._awaited():
            return None
        self.release(clean=True)
        # Whoever waits looks every POLL seconds; this thread must not be the first to look.
        time.sleep(3 * POLL)
        return self.take(timeout=threading.TIMEOUT_MAX)

    @contextmanager
    def _announced(self, short: bool) -> Iterator[None]:
        """Say that a short write waits, here and to other processes."""
        if not short:
            yield
            return
        with self._counting:
            self._waiting += 1
        descriptor = -1
        try:
            with disk_errors(self._queue):
                descriptor = create(self._queue, flags=os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            with self._counting:
                self._waiting -= 1

    def _awaited(self) -> bool:
        if self._waiting:
            return True
        try:
            descriptor = _opened(self._queue)
        except OSError:
            return False  # nobody ever waited
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

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

    def _take(self, until: float) -> bool:
        with disk_errors(self.path):
            descriptor = create(self.path, flags=os.O_NOFOLLOW)
            try:
                died = self._claim(descriptor, until)
            except BaseException:
                # Closing releases the lock: an error here, such as a full disk, must not outlive the call.
                os.close(descriptor)
                raise
        self._descriptor, self._depth, self._clean = descriptor, 1, True
        return died

    def _claim(self, descriptor: int, until: float) -> bool:
        """Lock the open file and write the holder's name into it; true where it names one that died."""
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= until:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                    raise ArchiveLocked(
                        f"{self.path.parent} is being written by {holder}: {_ADVICE}"
                    ) from error
                time.sleep(POLL)
        died = os.fstat(descriptor).st_size > 0
        name = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        # In this order a full disk leaves the file as it is: empty, or with the name of the holder that died.
        os.pwrite(descriptor, name, 0)
        os.ftruncate(descriptor, len(name))
        # A power cut must not hide that there was a writer.
        sync_files([self.path])
        sync_folders([self.path.parent])
        return died


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for a while; waits until whoever has it lets go."""
    with disk_errors(path):
        descriptor = create(path, flags=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
