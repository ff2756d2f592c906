"""Keeping the decoders quiet: one bad file must not fill the user's screen with warnings."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_saved: list = []


@contextmanager
def silence() -> Iterator[None]:
    """Python warnings are dropped inside the block, in every thread; the filters found are put back after
    the last block.

    `warnings.catch_warnings` restores the filters in the order threads happen to leave it, so blocks are
    counted here.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = list(warnings.filters)
            warnings.simplefilter("ignore")
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                warnings.filters[:] = _saved  # type: ignore[index]
                # The interpreter caches verdicts by the version of the filters; this call raises it.
                warnings._filters_mutated()  # type: ignore[attr-defined]


def reason(error: BaseException) -> str:
    """An exception as one line for a report: at most 200 characters, never empty."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
