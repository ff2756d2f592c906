"""What the processes of a service write on stderr: short lines without names, values or tokens."""

import logging
import os
import sys
import traceback


class ServiceFormatter(logging.Formatter):
    """Format a line, and of an exception only its class and where it was raised: its message may name a patient."""

    def formatException(self, ei: object) -> str:
        """Return where an exception comes from, in one line; all of it with MEDLIKE_TRACEBACK=1."""
        error = sys.exc_info()[1] if not isinstance(ei, tuple) else ei[1]
        if not isinstance(error, BaseException):
            return ""
        if os.environ.get("MEDLIKE_TRACEBACK") == "1":
            return "".join(traceback.format_exception(error))
        frames = traceback.extract_tb(error.__traceback__)[:-4:-1]
        places = (f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames)
        return f"  {type(error).__name__} in {' < '.join(places)}"


def log_to_stderr(name: str = "") -> None:
    """Write warnings and errors of this process on stderr.

    Args:
        name: What the lines call the process.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(ServiceFormatter(f"medlike serve: {name}{': ' if name else ''}%(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # Requests that are none are answered, and are no matter for the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
