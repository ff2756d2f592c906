"""The decoding worker: a process that reads the files that others gave, so that a poisonous one ends only it.

It is started by `medlike.imaging.pool`, with an empty environment. It cannot write a file, has a limit of memory, and
ends with its parent.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path

from medlike.errors import ImageError
from medlike.imaging import channel, memory, reading
from medlike.types import JsonObject

_PR_SET_PDEATHSIG = 1
_MANY = 1 << 62


class _Stopped(Exception):
    """The parent is gone, or wants no more images of this file."""


class _Parent:
    """The parent, which hands out memory and files."""

    def __init__(self, descriptor: int, shared: int, faults: bool) -> None:
        self.channel = socket.socket(fileno=descriptor)
        self.shared, self.faults = channel.mapped(shared), faults
        self.granted = 0
        memory.ask_instead(self.ask)

    def ask(self, size: int) -> int | None:
        """Ask for memory; the answer is as `memory.Ask` says."""
        if size <= self.granted:
            return None
        limit = self.call({"reserve": size})["limit"]
        if limit is None:
            self.granted = size
        return None if limit is None else int(limit)

    def call(self, message: JsonObject) -> JsonObject:
        """Send a message and return the answer. Raises _Stopped if there is none."""
        channel.send(self.channel, message)
        return self._received()

    def _received(self) -> JsonObject:
        answer = channel.receive(self.channel)
        if answer is None:
            raise _Stopped
        return answer

    def serve(self, early: bool) -> None:
        """Read files until the parent is gone. early: load what most files need before there is one."""
        channel.send(self.channel, {"ready": True})
        if early:
            import medlike.imaging.dicom  # noqa: F401
        request = self._received()
        while True:
            _limit_memory(request["memory"])
            self.granted = 0
            request = self.call(self._read(request))

    def _read(self, request: JsonObject) -> JsonObject:
        """Read one file, and return the message that ends it."""
        try:
            if self.faults and request["fault"]:
                _fail(request["fault"])
            for image in reading.read(os.fsdecode(request["path"].encode("latin-1")), request["frames"],
                                      request["segmentations"]):  # fmt: skip
                facts = channel.put(self.shared, image)
                del image
                if self.call({"image": facts})["stop"]:
                    break
        except ImageError as error:
            return {"error": str(error)}
        except MemoryError:
            return {"error": "there is not enough memory to decode it"}
        except _Stopped:
            raise
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"end": True}


def main() -> None:
    """Serve the parent whose end of the channel, shared memory and process id the command line names."""
    descriptor, shared, parent, faults, early = map(int, sys.argv[1:6])
    _end_with(parent)
    try:
        _confine()
        _Parent(descriptor, shared, bool(faults)).serve(bool(early))
    except (_Stopped, OSError):
        return


def _end_with(parent: int) -> None:
    """Ask the kernel to end this process with its parent; elsewhere the end of the channel tells it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit()


def _confine() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # What was written there until now said why it could not start; a decoder's complaints are nobody's business.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


def _limit_memory(size: int) -> None:
    """Allow so many bytes of private memory besides what this process has now."""
    try:
        status = Path("/proc/self/status").read_text()
        used = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
    except (OSError, StopIteration, ValueError):
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = used + size if most == resource.RLIM_INFINITY else min(used + size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _fail(fault: str) -> None:
    """Do what a decoder with a fault does; only tests ask for it."""
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fault == "allocate":
        blocks = []
        while True:
            blocks.append(b"\1" * (16 << 20))
            time.sleep(0.002)
    elif fault == "hang":
        time.sleep(_MANY >> 32)
    elif fault == "map":
        import mmap

        # Shared memory does not count for RLIMIT_DATA: only its parent sees it.
        block = mmap.mmap(-1, 8 << 30)
        for start in range(0, 8 << 30, 16 << 20):
            block[start : start + (16 << 20)] = b"\1" * (16 << 20)
            time.sleep(0.002)
    raise ImageError(f"there is no fault {fault!r}")


if __name__ == "__main__":
    main()
