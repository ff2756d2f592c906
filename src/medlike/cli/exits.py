"""Exit codes, and one line on stderr in place of a traceback."""

import errno
import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib.util import find_spec
from typing import NoReturn

import typer

from medlike.errors import MedlikeError, MissingExtra, UnknownField
from medlike.escaping import printable

DONE, FAILED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that however it ends, it has an exit code and prints at most one line on stderr.

    With MEDLIKE_TRACEBACK=1 in the environment, errors are not caught, so that a defect can be reported.
    """

    @wraps(command)
    def run(*arguments: object, **options: object) -> None:
        if os.environ.get("MEDLIKE_TRACEBACK") == "1":
            command(*arguments, **options)
            return
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except UnknownField as error:
            fail(str(error), USAGE)
        except MedlikeError as error:
            fail(str(error))
        except KeyboardInterrupt:
            print("medlike: interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader (head, less) has seen enough. Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(DONE) from None
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                fail(f"the disk is full{where}; free space, then run it again")
            fail(f"{error.strerror or error}{where}")
        except MemoryError:
            fail("out of memory; free some, or index fewer files at a time")
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            name = type(error).__name__
            fail(f"defect: {name}: {error} (run again with MEDLIKE_TRACEBACK=1 and report what it prints)")

    return run


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Print in one line on stderr what went wrong, and exit with a code."""
    print(f"medlike: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise typer.Exit(code)


def need(extra: str, *packages: str) -> None:
    """Check that packages are installed, before long work that needs them at its end.

    Args:
        extra: The extra of medlike that installs the packages.
        *packages: Their names.

    Raises:
        MissingExtra: A package is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)
