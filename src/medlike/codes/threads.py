"""The threads that share one scan. Kernels release the interpreter lock, so plain threads use every core."""

import ctypes
import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import TypeVar

T = TypeVar("T")

_pool: ThreadPoolExecutor | None = None
_threads: list[int] = []  # of the pool, as the system numbers them
_kept_off: tuple[int, int] = (-1, 0)  # the core that they were last sent from, and how many they were


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def share(most: int, worker: Callable[["itertools.count[int]"], T]) -> list[T]:
    """Run `worker` on every core, at most `most` times; all draw step numbers from one counter, rising for each.

    A worker ends when no step is left. Returns what those that ran have returned, at least one. Numba's own
    parallel layer is not used: it aborts the process when two Python threads enter it at once.
    """
    global _pool
    counter = itertools.count()
    number = min(cores(), most) if most > 1 else 1
    if number == 1:
        return [worker(counter)]
    if _pool is None:
        _pool = ThreadPoolExecutor(
            max_workers=max(1, cores() - 1),
            thread_name_prefix="medlike-codes",
            initializer=lambda: _threads.append(threading.get_native_id()),
        )
    _step_aside()
    others = [_pool.submit(worker, counter) for _ in range(number - 1)]
    results = [worker(counter)]
    # By now every step has been drawn: a thread that has not begun would find nothing to do.
    results += [other.result() for other in others if not other.cancel()]
    return results


def _step_aside() -> None:
    """Keep the pool off the core that the caller runs on.

    Linux likes to wake a thread where its waker runs. Two that share a core do the work of one, and a scan is over
    before the system parts them. They stay where they were sent, so mostly there is nothing to do.
    """
    global _kept_off
    getcpu = _getcpu()
    if getcpu is None or _kept_off == (now := (getcpu(), len(_threads))):
        return
    _kept_off = now
    elsewhere = os.sched_getaffinity(0) - {now[0]}
    for thread in _threads if elsewhere else ():
        with suppress(OSError):  # it has ended, or may not be moved
            os.sched_setaffinity(thread, elsewhere)


@cache
def _getcpu() -> Callable[[], int] | None:
    """Return sched_getcpu of the C library, None if there is none."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


def _forget_pool() -> None:
    # A forked child has the pool object but none of its threads.
    global _pool, _kept_off
    _pool, _kept_off = None, (-1, 0)
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
