"""Decode the files that others gave in worker processes that can be killed.

A decoder that crashes, hangs or takes too much memory costs one worker: the file is refused with the reason, and the
next file gets another worker. Workers are started when the first file needs one and end with this process. They are
programs of their own (`python -c ...`), not copies of this one: no `__main__` is imported, so a script needs no guard,
and notebooks and threads can use them.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from medlike.errors import ImageError, WorkerError
from medlike.imaging import channel
from medlike.imaging.frames import Frames, frame_choice
from medlike.imaging.image import Image
from medlike.imaging.memory import decoding_budget
from medlike.types import JsonObject

#: Memory that a worker may take for a file without asking.
_FREE = 64 << 20
#: Seconds until a worker must have started, or given the next image.
_PATIENCE = 120.0
#: Seconds between two looks at the memory of a worker that is decoding.
_WATCH = 0.05
#: A worker that has grown by this much is not used again.
_GROWN = 256 << 20

#: The path is handed over as it is here, so that the worker finds the same packages without any environment.
_START = (
    "import json, os, sys; os.environ.update(dict.fromkeys("
    "['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'TIFFFILE_NUM_THREADS'], '1')); "
    "sys.path[:] = json.loads(sys.argv.pop()); from medlike.imaging.worker import main; main()"
)


class MemoryShares:
    """Share one budget of memory among workers.

    A worker that needs more than is left waits, but only for those that decode now: one that waits itself, or whose
    consumer has not yet asked for its next image, may not end before this one does.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._sizes: dict[int, int] = {}
        self._decoding: set[int] = set()
        self._changed = threading.Condition()

    def take(self, holder: int, size: int) -> bool:
        """Let a holder have so many bytes in all. Returns False if that is more than the whole budget."""
        if size > self.total:
            return False
        with self._changed:
            self._decoding.discard(holder)
            self._changed.notify_all()
            while self._decoding and size + sum(v for k, v in self._sizes.items() if k != holder) > self.total:
                self._changed.wait()
            self._sizes[holder] = size
            self._decoding.add(holder)
        return True

    def rest(self, holder: int, size: int) -> None:
        """Note that a holder does not decode, and what it still holds."""
        with self._changed:
            self._decoding.discard(holder)
            self._sizes[holder] = size
            if not size:
                del self._sizes[holder]
            self._changed.notify_all()


class Worker:
    """One worker process and the channel to it. Used by one thread at a time."""

    def __init__(self, shares: MemoryShares, seconds: float, faults: bool, early: bool = False) -> None:
        """Start the process.

        Args:
            shares: The budget that it draws on.
            seconds: How long it may take until it has started, and for each image.
            faults: Whether it fails when a request says so.
            early: Whether it loads what most files need before there is one.

        Raises:
            WorkerError: It does not start.
        """
        self.shares, self.seconds, self.granted = shares, seconds, 0
        descriptor = channel.shared_memory()
        self.channel, theirs = socket.socketpair()
        try:
            self.memory = channel.mapped(descriptor)
            paths = [os.path.abspath(one) for one in sys.path if one]  # noqa: PTH100 (links stay)
            root = str(Path(__file__).parents[2])
            if root not in paths:
                paths.append(root)
            arguments = [str(number) for number in (theirs.fileno(), descriptor, os.getpid(), int(faults), int(early))]
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-X", "utf8", "-c", _START, *arguments, json.dumps(paths)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), descriptor),
                env={},
                start_new_session=True,
            )
        except OSError as error:
            self.channel.close()
            raise WorkerError(f"the decoding worker does not start ({error}): {_INLINE}") from None
        finally:
            os.close(descriptor)
            theirs.close()
        self._require_start()

    def read(
        self, path: str | Path, frames: Frames, segmentations: bool, fault: str | None = None
    ) -> Iterator[Image]:
        """Yield the images of a file. Raises ImageError; afterwards `alive` says whether the worker can be used."""
        request: JsonObject = {
            "path": os.fsencode(os.path.abspath(path)).decode("latin-1"),  # noqa: PTH100 (links stay)
            "frames": frames,
            "segmentations": segmentations,
            "fault": fault,
            "memory": self.shares.total,
        }
        self._base = self._size()
        self._take(_FREE)
        answer = self._call(request)
        while True:
            if "image" in answer:
                self.shares.rest(id(self), self.granted)
                try:
                    yield self._image(answer["image"], str(path))
                except GeneratorExit:
                    # The consumer has enough: the worker goes on to its next file.
                    with suppress(ImageError):
                        self._call({"stop": True})
                    raise
                self._take(self.granted)
                answer = self._call({"stop": False})
            elif "error" in answer:
                raise ImageError(str(answer["error"]))
            else:
                return

    @property
    def alive(self) -> bool:
        """Return True if the process runs and has not grown too large."""
        return self.process.poll() is None and self._size() < self._began + _GROWN

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.channel.close()

    def _image(self, facts: JsonObject, path: str) -> Image:
        try:
            return channel.take(self.memory, facts, path)
        except ImageError:
            self.close()  # it waits for an answer, and cannot be trusted with another file
            raise

    def _take(self, size: int) -> None:
        self.granted = size
        self.shares.take(id(self), size)

    def _call(self, request: JsonObject) -> JsonObject:
        """Send a request, and answer what the worker asks for until it has answered.

        Raises:
            ImageError: The worker has ended, or had to be ended.
        """
        until = time.monotonic() + self.seconds
        try:
            channel.send(self.channel, request)
            while True:
                self._wait(until)
                answer = channel.receive(self.channel)
                if answer is None:
                    raise ImageError(self._why_ended())
                if "reserve" not in answer:
                    return answer
                size = _FREE + int(answer["reserve"])
                began = time.monotonic()
                granted = self.shares.take(id(self), size)
                until += time.monotonic() - began
                if granted:
                    self.granted = size
                channel.send(self.channel, {"limit": None if granted else self.shares.total - _FREE})
        except (OSError, ValueError, TypeError) as error:
            self.close()
            raise ImageError(f"the decoding worker gave no answer ({error}): {self._why_ended()}") from None
        except BaseException:
            self.close()  # also at an interrupt: what it would answer next is no answer to the next request
            raise

    def _wait(self, until: float) -> None:
        """Wait until the worker says something. Raises ImageError if it takes too long or too much memory."""
        while not channel.readable(self.channel, _WATCH):
            if time.monotonic() > until:
                raise ImageError(f"decoding it took more than {self.seconds:.0f} s, the limit for an image: convert it")
            grown = self._size() - self._base
            # What is reserved is an estimate; half as much again is no attack.
            limit = self.granted * 3 // 2 + _FREE
            if grown > limit:
                raise ImageError(
                    f"decoding it took {grown / 1e6:.0f} MB of memory, the limit for its size is {limit / 1e6:.0f} MB: "
                    "its decoder was ended; convert the file"
                )

    def _size(self) -> int:
        """Return the resident bytes of the process, 0 where the system does not say."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0

    def _require_start(self) -> None:
        try:
            ready = channel.readable(self.channel, self.seconds) and channel.receive(self.channel)
        except BaseException:
            self.close()
            raise
        if not ready:
            self.process.kill()
            complaint = self.process.communicate()[1].decode(errors="replace").strip().splitlines()
            self.close()
            raise WorkerError(f"the decoding worker does not start ({(complaint or ['no reason'])[-1]}): {_INLINE}")
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._began = self._base = self._size()

    def _why_ended(self) -> str:
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its decoder crashed ({name}): the file is damaged, or made to do harm"


_INLINE = 'use decoding="inline" for files that you trust'


class WorkerPool:
    """Workers, each for one file at a time: as many as are read at once, kept for the files after them."""

    def __init__(
        self, memory: int | None = None, seconds: float = _PATIENCE, faults: Mapping[str, str] | None = None
    ) -> None:
        """Start nothing yet.

        Args:
            memory: Bytes that all workers together may take for decoding; by default what `decoding_budget` says.
            seconds: How long decoding an image may take.
            faults: For tests: the fault that a worker has at a file of this name.
        """
        self.shares = MemoryShares(decoding_budget() if memory is None else memory)
        self.seconds, self.faults = seconds, faults
        self.process_id = os.getpid()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._closed = False
        self._lock = threading.Lock()
        # A worker ends with the thread that started it, so that thread must not be one of the callers'.
        self._starter: ThreadPoolExecutor | None = None
        self._early: Future[Worker] | None = None

    def start(self) -> None:
        """Begin to start a worker, unless there is one, for a file that will come soon. Returns at once."""
        with self._lock:
            if not (self._idle or self._busy or self._early or self._closed):
                self._early = self._begun(early=True)

    def read(self, path: str | Path, frames: Frames = "middle", segmentations: bool = True) -> Iterator[Image]:
        """Yield the images of a file, as `reading.read` does, decoded by a worker. Raises ImageError, WorkerError."""
        frame_choice(frames)
        fault = None if self.faults is None else self.faults.get(Path(path).name)
        worker = self._worker()
        usable = False
        try:
            yield from worker.read(path, frames, segmentations, fault)
            usable = True
        except (ImageError, GeneratorExit):
            usable = True
            raise
        finally:
            self._give_back(worker, usable)

    def workers(self) -> list[int]:
        """Return the process ids of all workers."""
        with self._lock:
            return [worker.process.pid for worker in (*self._busy, *self._idle)]

    def close(self) -> None:
        """End all workers; those of a parent that forked this process stay."""
        if self.process_id != os.getpid():
            return
        with self._lock:
            self._closed = True
            workers = (*self._busy, *self._idle)
            self._idle = []
            starter, early = self._starter, self._early
            self._early = None
        if early is not None and not early.cancel() and early.exception() is None:
            early.result().close()
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.wait()
        if starter is not None:
            starter.shutdown(wait=False)

    def _worker(self) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            early, self._early = (self._early, None) if worker is None else (None, self._early)
        if worker is not None and not worker.alive:
            worker.close()
            worker = None
        if worker is None:
            try:
                if early is None:
                    with self._lock:
                        early = self._begun()
                worker = early.result()
            except RuntimeError as error:  # the interpreter ends
                raise WorkerError(f"the decoding worker does not start ({error}): {_INLINE}") from None
        with self._lock:
            self._busy.add(worker)
        return worker

    def _begun(self, early: bool = False) -> "Future[Worker]":
        """Begin to start a worker; the caller holds the lock. Raises RuntimeError when the interpreter ends."""
        if self._starter is None:
            self._starter = ThreadPoolExecutor(1, thread_name_prefix="medlike-decoding")
        return self._starter.submit(Worker, self.shares, self.seconds, self.faults is not None, early)

    def _give_back(self, worker: Worker, usable: bool) -> None:
        self.shares.rest(id(worker), 0)
        keep = usable and worker.alive
        with self._lock:
            self._busy.discard(worker)
            keep = keep and not self._closed
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.close()


_lock = threading.Lock()
_pool: WorkerPool | None = None


def shared_pool() -> WorkerPool:
    """Return the pool of this process; after a fork the child has one of its own."""
    global _pool
    with _lock:
        if _pool is None or _pool.process_id != os.getpid():
            _pool = WorkerPool()
            atexit.register(_pool.close)
        return _pool
