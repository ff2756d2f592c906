"""Sources are read in parallel, and their items come in order."""

import threading

import pytest

from medlike.archive.intake.reader import read


def test_reading_is_ordered_and_bounded():
    held, most, lock = 0, 0, threading.Lock()

    def load(source):
        nonlocal held, most
        for frame in range(50):
            with lock:
                held += 1
                most = max(most, held)
            yield source, frame

    seen = []
    for source, item in read(range(40), load, threads=3, spent=lambda seconds: None):
        if item is not None:
            seen.append(item)
            with lock:
                held -= 1
        else:
            assert source == seen[-1][0]
    assert seen == [(source, frame) for source in range(40) for frame in range(50)]
    # 5 sources open, 4 items waiting and one in hand each.
    assert most <= 5 * 6


def test_reading_raises_what_a_source_raises():
    def load(source):
        yield source
        if source == 3:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(read(range(10), load, threads=2, spent=lambda seconds: None))
