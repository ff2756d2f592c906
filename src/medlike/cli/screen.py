"""What people see: progress and notes on stderr, tables on stdout. Machine output goes to stdout alone."""

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from medlike.escaping import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def out() -> "Console":
    """The console on stdout; in a pipe wide enough not to fold tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 250, highlight=False)


def say(text: str, style: str | None = None) -> None:
    """Print a line on stdout that may hold names and texts from files: no markup, no control characters."""
    out().print(printable(text), style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """A line for people on stderr."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(printable(text), markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout; names in every script as they are, control characters as escapes."""
    print(printable_json(value, indent=2, default=_as_plain))


def _as_plain(value: Any) -> Any:
    for reading in ("tolist", "isoformat"):
        if hasattr(value, reading):
            return getattr(value, reading)()
    return str(value)


@contextmanager
def progress() -> Iterator["Progress"]:
    """A progress display on stderr; nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as display:
        yield display


def size(count: int) -> str:
    """Bytes for people: 1.5 MB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], whole: Collection[str] = ()) -> "Table":
    """A plain table; cells are shown as they are, never read as markup. whole: columns never folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(head))
    for name in head:
        made.add_column(Text(printable(name)), overflow="fold", no_wrap=name in whole)
    for row in rows:
        made.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    return made


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]], whole: Collection[str] = ()) -> None:
    """A table on stdout; in a pipe without the blanks that fill its lines up."""
    console, made = out(), table(head, rows, whole)
    if console.is_terminal:
        console.print(made)
        return
    with console.capture() as captured:
        console.print(made)
    lines = captured.get().splitlines()
    sys.stdout.writelines(line.rstrip() + "\n" for line in lines)
