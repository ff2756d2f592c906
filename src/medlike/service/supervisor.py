"""The supervisor: the parent of a service's processes. It listens, starts them, restarts what dies, and stops them."""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from medlike.errors import MedlikeError
from medlike.imaging import channel
from medlike.service.logs import log_to_stderr
from medlike.service.plan import ServicePlan
from medlike.types import JsonObject

log = logging.getLogger("medlike.service")

STARTING = 120.0  # seconds in which a process must report that it works
STOPPING = 15.0  # seconds in which workers must end; what a request may still take is less
FINISHING = 60.0  # seconds in which writers must end, once the workers have
LIVED = 10.0  # a process that worked for so many seconds is restarted at once
LONGEST = 30.0  # most seconds between two attempts
_LISTENED = 2048
#: What the C library does with memory that is free again. A search takes and frees megabytes: given back to the system
#: each time, they cost a quarter of its time. Others than glibc ignore this.
MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_TOP_PAD_": str(4 << 20),
}  # fmt: skip


class ServiceFailed(MedlikeError):
    """Raised if a process of the service cannot start. The message is the process's own."""


@dataclass(eq=False)
class ServiceProcess:
    """A process of the service, and its restarts.

    Attributes:
        name: What the log calls it.
        module: What it runs.
        own: Facts for it alone.
        descriptors: What it inherits.
        seconds: How long it may take to stop.
    """

    name: str
    module: str
    own: JsonObject
    descriptors: Sequence[int] = ()
    seconds: float = STOPPING
    process: "subprocess.Popen[bytes] | None" = None
    line: socket.socket | None = None
    ready: bool = False
    began: float = 0.0
    due: float = 0.0
    deaths: int = field(default=0)


class Supervisor:
    """The processes of one service."""

    def __init__(self, plan: ServicePlan, listening: socket.socket, workers: int) -> None:
        """Prepare the processes.

        Args:
            plan: What the service is to do.
            listening: The socket that all workers take connections from.
            workers: How many workers there are.
        """
        self._plan, self._listening = plan, listening
        descriptor = listening.fileno()
        self._processes = [
            ServiceProcess(
                f"worker {number}", "medlike.service.worker",
                {"name": f"worker {number}", "socket": descriptor}, [descriptor],
            )
            for number in range(1, workers + 1)
        ]  # fmt: skip
        self._processes += [
            ServiceProcess(
                f"writer of {each.name}", "medlike.service.writer_process",
                {"name": f"writer of {each.name}", "path": str(each.path)}, seconds=FINISHING,
            )
            for each in plan.collections
        ]  # fmt: skip
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._started = False

    def run(self, started: Callable[[], None]) -> None:
        """Serve until a signal stops the service.

        Args:
            started: Called once, when all processes work.

        Raises:
            ServiceFailed: A process cannot start.
        """
        log_to_stderr()
        with self._signals() as wake, ExitStack() as stack:
            self._selector.register(wake, selectors.EVENT_READ, None)
            stack.callback(self._kill)
            for each in self._processes:
                self._start(each)
            while not self._stopping:
                self._wait()
                self._restart()
                if not self._started and all(each.ready for each in self._processes):
                    self._started = True
                    started()
            self._stop()

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Note SIGTERM, SIGINT and SIGHUP, and yield a socket that becomes readable with them."""
        reading, writing = socket.socketpair()
        writing.setblocking(False)

        def stop(number: int, frame: object) -> None:
            if self._stopping:
                self._kill()
            self._stopping = True

        former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        woken = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in former.items():
                signal.signal(number, handler)
            reading.close()
            writing.close()

    def _start(self, each: ServiceProcess) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            each.process = subprocess.Popen(
                [sys.executable, "-P", "-m", each.module, str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *each.descriptors], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                env={**MEMORY, **os.environ}, start_new_session=True,
            )  # fmt: skip
        each.line, each.ready, each.began = ours, False, time.monotonic()
        with suppress(OSError):
            channel.send(ours, {"plan": self._plan.to_dict(), "own": each.own})
        self._selector.register(ours, selectors.EVENT_READ, each)

    def _wait(self, until: float | None = None) -> None:
        """Wait for a signal, a message of a process, its end, or the time for a restart."""
        now = time.monotonic()
        times = [each.due for each in self._processes if each.process is None]
        times += [each.began + STARTING for each in self._processes if each.process is not None and not each.ready]
        times += [] if until is None else [until]
        for key, _ in self._selector.select(max(min(times) - now, 0.0) if times else None):
            if key.data is None:
                with suppress(OSError):
                    key.fileobj.recv(64)  # type: ignore[union-attr]
            else:
                self._hear(key.data)

    def _hear(self, each: ServiceProcess) -> None:
        assert each.line is not None
        try:
            message = channel.receive(each.line)
        except (OSError, ValueError):
            message = None
        if message is None:
            self._bury(each)
        elif "failed" in message and not self._started:
            raise ServiceFailed(message["failed"])
        elif "failed" in message:
            log.error("%s cannot start: %s", each.name, message["failed"])
        else:
            each.ready = True

    def _bury(self, each: ServiceProcess) -> None:
        """Take note of the end of a process, and of when it is started again."""
        assert each.process is not None and each.line is not None
        self._selector.unregister(each.line)
        each.line.close()
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(1)
        if each.process.returncode is None:
            each.process.kill()
            each.process.wait()
        code, each.process, each.line = each.process.returncode, None, None
        if self._stopping:
            return
        if not self._started:
            raise ServiceFailed(f"{each.name} ended while it started, with status {code}: the lines above say why")
        now = time.monotonic()
        lived = each.ready and now - each.began >= LIVED
        each.deaths, each.ready = 1 if lived else each.deaths + 1, False
        each.due = now if each.deaths == 1 else now + min(LONGEST, 0.25 * 2**each.deaths)
        log.warning("%s ended with status %d; it is started again", each.name, code)

    def _restart(self) -> None:
        now = time.monotonic()
        for each in self._processes:
            if each.process is None and each.due <= now and not self._stopping:
                self._start(each)
            elif each.process is not None and not each.ready and now >= each.began + STARTING:
                log.warning("%s did not start within %d s", each.name, STARTING)
                each.process.kill()
                each.began = now

    def _stop(self) -> None:
        """Stop the workers, wait for them, then stop the writers."""
        self._listening.close()
        for seconds in sorted({each.seconds for each in self._processes}):
            group = [each for each in self._processes if each.seconds == seconds]
            for each in group:
                if each.process is not None:
                    each.process.terminate()
            until = time.monotonic() + seconds
            while any(each.process is not None for each in group) and time.monotonic() < until:
                self._wait(until)

    def _kill(self) -> None:
        for each in self._processes:
            if each.process is not None:
                with suppress(OSError):
                    os.killpg(each.process.pid, signal.SIGKILL)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        ServiceFailed: The address cannot be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_LISTENED)
    except OSError as error:
        reason = error.strerror or error
        raise ServiceFailed(
            f"{host} port {port} cannot be used ({reason}): choose another with --port, or 0 for any that is free"
        ) from error
    return listening


@contextmanager
def claimed(folder: Path, address: str) -> Iterator[None]:
    """Hold an archive for this service.

    Args:
        folder: The archive.
        address: What a second service on it is told.

    Raises:
        ServiceFailed: Another service holds it.
    """
    import fcntl

    from medlike.files import create, disk_errors, make_own_folder, require_plain

    place = folder / "private" / "service"
    require_plain(place, folder=True)
    make_own_folder(place)
    file = place / "lock"
    with disk_errors(file):
        descriptor = create(file, 0o600, os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 300, 0).decode(errors="replace").strip() or "another process"
            raise ServiceFailed(
                f"{folder} is already served by {holder}: use that service, or stop it first"
            ) from None
        name = f"process {os.getpid()} at {address}\n".encode()
        with disk_errors(file):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, name, 0)
        yield
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
