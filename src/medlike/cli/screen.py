"""What people see: progress and notes on stderr, tables on stdout. Machine output goes to stdout alone."""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


# What a terminal obeys instead of showing it: control characters, and those that turn the direction of writing.
_OBEYED = (*range(32), *range(127, 160), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPED = {code: chr(code).encode("unicode_escape").decode() for code in _OBEYED}


def harmless(text: str) -> str:
    """A text from a file, its name included, as it may go to a terminal: a line break is shown as \\n."""
    return text.translate(_ESCAPED)


def out() -> "Console":
    """The console on stdout; in a pipe wide enough not to fold tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 250, highlight=False)


def note(text: str) -> None:
    """A line for people on stderr."""
    from rich.console import Console

    Console(stderr=True, highlight=False).print(harmless(text), markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; names in every script as they are."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_as_plain))


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
        made.add_column(name, overflow="fold", no_wrap=name in whole)
    for row in rows:
        made.add_row(*(Text("" if cell is None else harmless(str(cell))) for cell in row))
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
