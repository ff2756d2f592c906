"""`medlike serve` in processes of its own."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

MEDLIKE = Path(sys.executable).with_name("medlike")
SECONDS = 60  # in which what a test waits for must happen


class Serving:
    """A running service."""

    def __init__(self, process: "subprocess.Popen[str]", line: str) -> None:
        self.process, self.line = process, line
        self.address, self.token = re.fullmatch(r"medlike is running at (\S+)\?token=(\S+)\n", line).groups()
        self.port = int(self.address.rstrip("/").rpartition(":")[2])

    @property
    def headers(self) -> dict[str, str]:
        """Return the header with the token."""
        return {"authorization": f"Bearer {self.token}"}

    def ask(self, method: str, path: str, **more) -> httpx.Response:
        """Ask with the token, on a connection of its own."""
        return httpx.request(method, f"{self.address}{path}", headers=self.headers, timeout=SECONDS, **more)

    def get(self, path: str, **more) -> httpx.Response:
        """Ask with the token, on a connection of its own."""
        return self.ask("GET", path, **more)

    def stream(self, path: str):
        """Ask with the token, and read the answer as it comes."""
        return httpx.stream("GET", f"{self.address}{path}", headers=self.headers, timeout=SECONDS)

    def workers(self) -> list[int]:
        """Return the ids of the worker processes."""
        return [child for child in children(self.process.pid) if "medlike.service.worker" in arguments(child)]

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Stop the service with a signal, and return what it wrote on stderr."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=SECONDS)[1]


def started(*words: object, **environment: str) -> "subprocess.Popen[str]":
    """Start `medlike serve` on any free port."""
    return subprocess.Popen(
        [str(MEDLIKE), "serve", "--port", "0", *map(str, words)], env={**os.environ, "COLUMNS": "120", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextmanager
def serving(*words: object, **environment: str) -> Iterator[Serving]:
    """Yield a service that works, and end it."""
    process = started(*words, **environment)
    line = process.stdout.readline()
    try:
        if not line:
            raise AssertionError(process.communicate(timeout=SECONDS)[1])
        yield Serving(process, line)
    finally:
        process.kill()
        process.communicate()


def children(process: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def arguments(process: int) -> str:
    """Return the arguments of a process."""
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


@contextmanager
def watched(*processes: int) -> Iterator[None]:
    """Require that processes have ended soon after the block."""
    handles = [os.pidfd_open(process) for process in processes]
    yield
    for handle in handles:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(SECONDS * 1000), "a process is still there"
        os.close(handle)
