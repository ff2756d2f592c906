"""A service of its own processes for benches: started as a user starts it, and what its processes cost."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medlike_research.speed.load import Call, Load

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/\S*?token=([\w-]+)")
STARTING = 120.0  # seconds


@dataclass(frozen=True)
class Service:
    """A running service: its process, where it is asked, and the seconds from its start to its first answer."""

    pid: int
    load: Load
    seconds: float

    def core_seconds(self) -> float:
        """Return the core-seconds of the service's processes so far. Linux only."""
        ticks = 0
        for words in _processes(self.pid):
            ticks += int(words[11]) + int(words[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(*arguments: str) -> Iterator[Service]:
    """Run `medlike serve --port 0` with these arguments until the block ends."""
    began = time.perf_counter()
    with _running([sys.executable, "-m", "medlike", "serve", "--port", "0", *arguments]) as (process, said):
        port, token = _address(process, said)
        load = Load("127.0.0.1", port, token)
        _await_answer(load, "/api/v1/ready")
        yield Service(process.pid, load, time.perf_counter() - began)


_BARE = """
import socket
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI, Request, Response
payload = Path(sys.argv[1]).read_bytes()
app = FastAPI()
@app.post("/")
async def bare(request: Request) -> Response:
    await request.json()
    return Response(payload, media_type="application/json")
# Of this protocol by name: only then does asyncio send small answers at once.
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
sock.bind(("127.0.0.1", 0))
config = uvicorn.Config(app, log_level="error", access_log=False)
print(f"http://127.0.0.1:{sock.getsockname()[1]}/?token=none", flush=True)
uvicorn.Server(config).run(sockets=[sock])
"""


@contextmanager
def bare(payload: Path) -> Iterator[Service]:
    """Run a service of one route that answers any JSON with a file's bytes, and does nothing else."""
    began = time.perf_counter()
    with _running([sys.executable, "-c", _BARE, str(payload)]) as (process, said):
        port, token = _address(process, said)
        load = Load("127.0.0.1", port, token)
        _await_answer(load, "/")
        yield Service(process.pid, load, time.perf_counter() - began)


@contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple["subprocess.Popen[str]", "queue.Queue[str | None]"]]:
    """Run a process, which is asked to stop at the end; yield it, and the lines that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.put(line)
        said.put(None)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield process, said
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join()


def _address(process: "subprocess.Popen[str]", said: "queue.Queue[str | None]") -> tuple[int, str]:
    lines: list[str] = []
    while (line := said.get(timeout=STARTING)) is not None:
        lines.append(line)
        if found := _ADDRESS.search("".join(lines).replace("\n", "")):
            return int(found[1]), found[2]
    raise RuntimeError(f"the service ended with {process.wait()}: {''.join(lines)[-2000:]}")


def _await_answer(load: Load, path: str) -> None:
    until = time.perf_counter() + STARTING
    while True:
        try:
            load.one_by_one([Call("GET", path)])
            return
        except OSError:
            if time.perf_counter() > until:
                raise
            time.sleep(0.01)


def _processes(root: int) -> list[list[str]]:
    """Return what /proc/PID/stat says after the name, of a process and all its descendants."""
    found: dict[int, list[str]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            found[int(place.name)] = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
    wanted, grew = {root}, True
    while grew:
        more = {pid for pid, words in found.items() if int(words[1]) in wanted}
        grew = not more <= wanted
        wanted |= more
    return [found[pid] for pid in wanted if pid in found]
