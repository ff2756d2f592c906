"""Reading sources in parallel, in order, with bounded memory, whatever the number of files or frames."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Source = TypeVar("Source")
Item = TypeVar("Item")

# Items a source may have waiting: a file of a thousand frames holds as much memory as any other.
_WAITING = 4


class Lane(Generic[Source, Item]):
    """One source and the items read from it, in order; ends with `None`, or with the exception it raised."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.items: queue.Queue[Item | BaseException | None] = queue.Queue(_WAITING)


def read(
    sources: Iterable[Source],
    load: Callable[[Source], Iterable[Item]],
    threads: int,
    spent: Callable[[float], None],
) -> Iterator[tuple[Source, Item | None]]:
    """(source, item) for every item of every source, in the order of the sources; (source, None) ends each.

    load runs in the threads; at most threads + 2 sources are open. An exception of `load` is raised here.
    spent is told the seconds that the threads worked, waiting not counted.
    """
    stop = threading.Event()
    lanes: deque[Lane[Source, Item]] = deque()
    waiting = iter(sources)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="medlike-read")

    def put(lane: Lane[Source, Item], item: Item | BaseException | None) -> None:
        while not stop.is_set():
            try:
                lane.items.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work(lane: Lane[Source, Item]) -> None:
        try:
            began = time.perf_counter()
            for item in load(lane.source):
                spent(time.perf_counter() - began)
                put(lane, item)
                if stop.is_set():
                    return
                began = time.perf_counter()
            spent(time.perf_counter() - began)
            put(lane, None)
        except BaseException as error:
            put(lane, error)

    def fill() -> None:
        while len(lanes) < threads + 2:
            try:
                lane: Lane[Source, Item] = Lane(next(waiting))
            except StopIteration:
                return
            lanes.append(lane)
            pool.submit(work, lane)

    try:
        fill()
        while lanes:
            lane = lanes[0]
            item = lane.items.get()
            if isinstance(item, BaseException):
                raise item
            yield lane.source, item
            if item is None:
                lanes.popleft()
                fill()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
