"""`medlike bench memory`: what an opened archive holds in memory, and searching where memory is short."""

import contextlib
import json
import os
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medlike.errors import MissingExtra
from medlike_research.speed.gallery import codes
from medlike_research.speed.population import populated
from medlike_research.speed.timing import Figures, Line

LIMIT = 512_000_000  # bytes
QUERIES = 5

_STATUS = """
import json, sys, time
def megabytes():
    facts = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {name: int(facts[name].split()[0]) * 1.024e-3 for name in ("VmRSS", "VmHWM", "RssAnon")}
"""
_OURS = (
    _STATUS
    + """
from medlike import Archive, Query
with Archive.open(sys.argv[1]) as archive:
    number = len(archive._indexes.images.view())
    opened = megabytes()
    spent = []
    for row in range(int(sys.argv[2])):
        began = time.perf_counter()
        assert len(archive.search(Query(id=f"{1 + row * (number // 7):032x}"), k=100)) == min(100, number - 1)
        spent.append(time.perf_counter() - began)
    print(json.dumps({"opened": opened, "searched": megabytes(), "seconds": sorted(spent)[len(spent) // 2]}))
"""
)
_FAISS = (
    _STATUS
    + """
import faiss, numpy
held = numpy.fromfile(sys.argv[1], numpy.uint8).reshape(-1, int(sys.argv[2]))
index = faiss.IndexBinaryFlat(8 * held.shape[1])
index.add(held)
query = held[:1].copy()
del held
began = time.perf_counter()
index.search(query, 100)
print(json.dumps({"searched": megabytes(), "seconds": time.perf_counter() - began}))
"""
)


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Open archives of 10 M images (quick 100,000) without cells, of 64 and of 16 bits, in processes of their own.

    Lines: megabytes memory-open: resident after opening, and memory-search after searches by id (k = 100), both
    beyond the codes that are scanned, and memory-search-own: what is no page of a file, which the system can take
    back at any time; ratio memory-peak: the peak over that of a process in which faiss IndexBinaryFlat searches the
    same codes; megabytes memory-low-64 and -16: the peak under a limit of 512 MB
    (a control group where one can be made, else a limit on the process's data), the archive's files not yet in
    the system's cache, so that their pages count too, and seconds of a search there; bytes memory-image: on disk,
    by part in the facts. Linux only. Raises MissingExtra without faiss.
    """
    try:
        import faiss  # noqa: F401 - the process below needs it
    except ImportError:
        raise MissingExtra("faiss-cpu", "bench") from None
    number = images or (100_000 if quick else 10_000_000)
    found = Figures("memory", {"images": number, "limit": LIMIT, "queries": QUERIES, "quick": quick})
    for bits in (64, 16):
        tell(f"an archive of {number:,} images of {bits} bits")
        held = codes("clustered", number, bits)
        with TemporaryDirectory() as folder:
            with populated(folder, held, ["a"] * number) as made:
                parts = made.archive.info()["bytes"]
            if bits == 64:
                held.tofile(f"{folder}/codes")
                del held
                _open(found, f"{folder}/archive", f"{folder}/codes", number * bits / 8e6, bits // 8)
                found.lines["memory-image"] = Line("bytes", sum(parts.values()) / number)
                found.facts["memory-image"] = {part: value / number for part, value in parts.items()}
            else:
                del held
            _low(found, f"{folder}/archive", bits)
    return found


def _open(found: Figures, archive: str, file: str, scanned: float, width: int) -> None:
    ours = _python(_OURS, archive, str(QUERIES))
    peer = _python(_FAISS, file, str(width))
    found.lines["memory-open"] = Line("megabytes", ours["opened"]["VmRSS"])
    found.lines["memory-search"] = Line("megabytes", ours["searched"]["VmRSS"] - scanned)
    found.lines["memory-search-own"] = Line("megabytes", ours["searched"]["RssAnon"])
    found.lines["memory-peak"] = Line("ratio", ours["searched"]["VmHWM"] / peer["searched"]["VmHWM"])
    found.facts["memory-peak"] = {
        "ours": ours, "peer": peer, "codes": scanned, "peer_is": "a process of faiss IndexBinaryFlat",
    }  # fmt: skip


def _low(found: Figures, archive: str, bits: int) -> None:
    _forget(Path(archive))
    with _limited(LIMIT) as (environment, kind):
        ours = _python(_OURS, archive, str(QUERIES), environment=environment)
    found.lines[f"memory-low-{bits}"] = Line("megabytes", ours["searched"]["VmHWM"])
    found.seconds(f"memory-low-{bits}-search", ours["seconds"])
    found.facts[f"memory-low-{bits}"] = ours | {"limited_by": kind}


def _forget(folder: Path) -> None:
    """Let the system drop a folder's files from its cache: a page that another has read is not charged to a group."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _limited(size: int) -> Iterator[tuple[Callable[[], None], str]]:
    """What a child process does first so that it has no more memory than `size` bytes, and how it is held to it."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"medlike-bench-{secrets.token_hex(4)}"
        try:
            group.mkdir()
            (group / limit).write_text(str(size))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            yield lambda group=group: (group / "cgroup.procs").write_text(str(os.getpid())), "a control group"  # type: ignore[misc]
        finally:
            # The kernel takes a moment to let go of a group whose last process has ended.
            for _ in range(50):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                time.sleep(0.1)
        return
    yield lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size)), "a limit on data"


def _python(code: str, *arguments: str, environment: Callable[[], Any] | None = None) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, preexec_fn=environment
    )
    if ran.returncode:
        raise RuntimeError(f"a process of the bench ended with {ran.returncode}: {ran.stderr[-2000:]}")
    return json.loads(ran.stdout)
