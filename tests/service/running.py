"""`medlike serve` in processes of its own, started and stopped as a user does."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ADDRESS = re.compile(r"(http://127\.0\.0\.1:\d+)/\S*?token=([\w-]+)")
STARTING = 120  # seconds


@dataclass(frozen=True)
class Running:
    """A service that runs.

    Attributes:
        process: Its supervisor.
        url: Its address, without a path.
        token: The owner's token.
    """

    process: "subprocess.Popen[str]"
    url: str
    token: str

    @property
    def port(self):
        """Return the port it listens on."""
        return int(self.url.rpartition(":")[2])

    def client(self, **settings):
        """Return an httpx client for paths below /api/v1."""
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/", headers=headers, **{"timeout": 60, **settings})

    def processes(self):
        """Return the ids of its processes: the supervisor and all that it started."""
        parents = {}
        for place in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(place.parent.name)] = int(place.read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # it has ended
        found = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def megabytes(self):
        """Return the memory of its processes; what several share counts once."""
        total = 0
        for pid in self.processes():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
        return total / 1e3


@contextmanager
def running(*arguments, cwd=None, environment=None):
    """Run `medlike serve --port 0` with these arguments, and stop it at the end; its exit code must be 0."""
    command = [sys.executable, "-m", "medlike", "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
        env={**os.environ, **(environment or {}), "COLUMNS": "500"},
    )  # fmt: skip
    said = queue.Queue()
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()
    try:
        yield Running(process, *_address(process, said))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            listener.join()
    assert code == 0, f"the service ended with {code}"


def _listen(process, said):
    for line in process.stdout:
        said.put(line)
    said.put(None)


def _address(process, said):
    lines = []
    while (line := said.get(timeout=STARTING)) is not None:
        lines.append(line)
        if found := ADDRESS.search("".join(lines)):
            return found[1], found[2]
    raise AssertionError(f"the service ended with {process.wait()}: {''.join(lines)}")
