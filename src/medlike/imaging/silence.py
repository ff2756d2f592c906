"""Keeping the decoders quiet: one bad file must not fill the user's screen with warnings."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_saved = warnings.catch_warnings()

#: Without any handler, Python prints a logger's warnings on stderr.
_unheard = logging.NullHandler()
_LOGGERS = ("PIL", "tifffile", "pydicom", "pylibjpeg")


@contextmanager
def silence() -> Iterator[None]:
    """Drop Python warnings inside the block, in every thread; after the last block they are as before.

    The decoders' loggers get a handler that prints nothing; an application's own handlers still hear them.
    `warnings.catch_warnings` restores the filters in the order in which threads happen to leave, so they can
    stay changed; here the blocks are counted, and only the first and the last of them change anything.
    """
    global _depth, _saved
    with _lock:
        if _depth == 0:
            _saved = warnings.catch_warnings()
            _saved.__enter__()
            warnings.simplefilter("ignore")
            for name in _LOGGERS:
                logging.getLogger(name).addHandler(_unheard)
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                _saved.__exit__(None, None, None)


def reason(error: BaseException) -> str:
    """Return an exception as one line for a report: at most 200 characters, never empty, without the file's name."""
    message = error.strerror if isinstance(error, OSError) and error.filename is not None else str(error)
    words = " ".join((message or "").split()) or type(error).__name__
    return words if len(words) <= 200 else words[:199] + "…"
