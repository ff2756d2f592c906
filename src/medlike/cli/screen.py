"""Output for people and programs: tables and JSON on stdout, progress and notes on stderr."""

import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medlike.escaping import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

EVERY = 5.0  # seconds between two lines of progress


def out() -> "Console":
    """Return a console on stdout; in a pipe it is wide enough not to fold tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 250, highlight=False)


def say(text: str, style: str | None = None) -> None:
    """Print a line on stdout that may hold texts from files: without markup and control characters."""
    out().print(printable(text), style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a line for people on stderr."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(printable(text), markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a JSON document on stdout: names in every script as they are, control characters as escapes."""
    print(printable_json(value, indent=2, default=_as_plain))


def _as_plain(value: object) -> object:
    for reading in ("tolist", "isoformat"):
        if hasattr(value, reading):
            return getattr(value, reading)()
    return str(value)


@contextmanager
def progress() -> Iterator["Progress"]:
    """Show progress on stderr: a bar on a terminal, elsewhere a plain line every few seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        ended = threading.Event()
        lines = threading.Thread(target=_report, args=(display, ended), daemon=True)
        if not console.is_terminal:
            lines.start()
        try:
            yield display
        finally:
            ended.set()


def _report(display: "Progress", ended: threading.Event) -> None:
    """Print a line about each task every few seconds until the work has ended."""
    while not ended.wait(EVERY):
        for task in display.tasks:
            total = "" if task.total is None else f" of {task.total:.0f}"
            note(f"medlike: {task.description}: {task.completed:.0f}{total}")


def size(count: int) -> str:
    """Return a number of bytes for people, such as 1.5 MB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def counted(count: int, name: str) -> str:
    """Return a number with the name of what it counts, such as 1 image or 2 images."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], whole: Collection[str] = ()) -> "Table":
    """Return a table.

    Args:
        head: The names of the columns.
        rows: The cells of each row; they are shown as they are, never read as markup.
        whole: The columns that are never folded.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(head))
    for name in head:
        made.add_column(Text(printable(name)), overflow="fold", no_wrap=name in whole)
    for row in rows:
        made.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    return made


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]], whole: Collection[str] = ()) -> None:
    """Print a table on stdout; in a pipe without blanks at the ends of lines. `table` explains the arguments."""
    console, made = out(), table(head, rows, whole)
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    lines = captured.get().splitlines()
    sys.stdout.writelines(line.rstrip() + "\n" for line in lines)
