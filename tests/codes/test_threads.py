"""One scan, several threads: every step once, and the others off the core of the caller."""

import itertools
import os
import threading

import pytest

from medlike.codes import threads


@pytest.mark.parametrize("steps", [1, 2, 57])
def test_every_step_is_taken_once(steps):
    def worker(counter):
        return list(itertools.takewhile(lambda step: step < steps, counter))

    found = threads.share(steps, worker)
    assert sorted(itertools.chain(*found)) == list(range(steps))


@pytest.mark.skipif(threads.cores() < 2 or threads._getcpu() is None, reason="needs two cores and sched_getcpu")
def test_other_threads_keep_off_the_core_of_the_caller():
    both = threading.Barrier(2)
    allowed, caller, seen = os.sched_getaffinity(0), threading.get_ident(), []

    def worker(counter):
        if threading.get_ident() != caller:
            seen.append(os.sched_getaffinity(0))
        next(counter)
        both.wait(60)

    threads.share(2, worker)  # now the pool has its thread
    seen.clear()
    threads.share(2, worker)
    assert seen and all(cores < allowed and len(cores) == len(allowed) - 1 for cores in seen)
    assert os.sched_getaffinity(0) == allowed
