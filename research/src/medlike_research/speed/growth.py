"""`medlike bench growth`: how time and bytes grow with the number of images."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

from medlike import Archive
from medlike_research.speed.gallery import codes
from medlike_research.speed.population import Populated, populated
from medlike_research.speed.timing import Figures, Line

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
BLOCK = 1000  # rows added, and removed, at each size
TURNS = 5
VERIFIED = 1_000_000  # rows at most
TASKS = ("add", "search", "filter", "remove", "verify", "reopen")


def bench(quick: bool = False, images: int | None = None, tell: Callable[[str], None] = print) -> Figures:
    """Archives without images, cells or links of 10,000 to 10 M rows (quick: to 100,000; images: to so many).

    Lines: for each task and size N, seconds growth-TASK-N: add (1,000 rows, one commit, until a search sees them),
    search (by id, k = 100), filter (one row in ten passes), remove (1,000 rows), verify (index against store, a
    million rows at most), reopen; bytes growth-bytes-N, an image on disk. ratio growth-TASK: how much the time
    grew from the smallest to the largest size over how much the images did: up to 1 is linear or better.
    """
    most = images or (SIZES[1] if quick else SIZES[-1])
    sizes = [*(size for size in SIZES if size < most), most]
    found = Figures("growth", {"sizes": sizes, "block": BLOCK, "turns": TURNS, "quick": quick})
    spent: dict[str, dict[int, float]] = {task: {} for task in TASKS}
    held: dict[int, float] = {}
    for size in sizes:
        tell(f"{size:,} images")
        labels = ["a" if row % 10 else "b" for row in range(size)]
        with TemporaryDirectory() as folder:
            with populated(folder, codes("clustered", size, 64), labels) as made:
                held[size] = sum(made.archive.info()["bytes"].values()) / size
                for task, seconds in _tasks(made, size).items():
                    spent[task][size] = seconds
            spent["reopen"][size] = statistics.median(_reopened(f"{folder}/archive") for _ in range(TURNS))
    for task, by_size in spent.items():
        for size, seconds in by_size.items():
            found.seconds(f"growth-{task}-{size}", seconds)
        if len(by_size) > 1:
            low, high = min(by_size), max(by_size)
            found.lines[f"growth-{task}"] = Line("ratio", by_size[high] / by_size[low] / (high / low))
    for size, each in held.items():
        found.lines[f"growth-bytes-{size}"] = Line("bytes", each)
    found.facts["growth"] = {"seconds": spent, "bytes_an_image": held}
    return found


def _tasks(made: Populated, size: int) -> dict[str, float]:
    asked = [made.stored_id(turn * (size // TURNS)) for turn in range(TURNS)]
    gone = [made.stored_id(row * (size // BLOCK)) for row in range(BLOCK)]
    fresh = codes("clustered", BLOCK, 64, seed=1)

    def add() -> None:
        made.add(fresh)
        made.index.view()

    def remove() -> None:
        made.archive.remove(gone)
        made.index.view()

    made.search(asked[0], "a")  # the compiled kernels are loaded
    spent = {
        "search": statistics.median(_timed(partial(made.search, id)) for id in asked),
        "filter": statistics.median(_timed(partial(made.search, id, "b")) for id in asked),
        "add": _timed(add),
        "remove": _timed(remove),
    }
    if size <= VERIFIED:
        problems: list[str] = []
        spent["verify"] = _timed(lambda: problems.extend(made.index.verify()))
        if problems:
            raise AssertionError(problems[0])
    return spent


def _reopened(path: str) -> float:
    def reopen() -> None:
        with Archive.open(path) as archive:
            archive._indexes.images.view()

    return _timed(reopen)


def _timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
