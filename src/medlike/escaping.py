"""Texts from files as they may go to a terminal, a log, a table or JSON: shown, never obeyed.

File names, labels, reports and reasons come from anybody. A terminal obeys control characters (C0, C1), a reader is
deceived by those that turn the direction of writing, a log by a line break, and a spreadsheet runs a cell that
begins like a formula. Here each of them is shown as an escape or as plain text.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

# C1 controls, line separators, marks and overrides of direction (Unicode TR9), and halves of surrogate pairs.
_HIDDEN = (
    *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000),
)  # fmt: skip
_IN_JSON = {code: f"\\u{code:04x}" for code in _HIDDEN}
_IN_TEXT = {code: chr(code).encode("unicode_escape").decode() for code in (*range(32), *_HIDDEN)}

# What a spreadsheet takes for a formula, in the usual and in full width (OWASP, CSV injection).
_FORMULA = re.compile(r"[\s']*[=+\-@\t\r＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?")


def printable(text: str) -> str:
    """Return a text with every control character shown as an escape, line breaks too."""
    return text.translate(_IN_TEXT)


def printable_lines(text: str) -> str:
    """Return a text of several lines with every other control character shown as an escape."""
    return "\n".join(printable(line) for line in text.split("\n"))


def printable_json(
    value: object,
    indent: int | None = None,
    allow_nan: bool = True,
    default: Callable[[object], object] | None = None,
) -> str:
    """Return a value as JSON, names in every script as they are, control characters as escapes of JSON.

    Args:
        value: What `json.dumps` takes.
        indent: As for `json.dumps`.
        allow_nan: As for `json.dumps`.
        default: As for `json.dumps`.
    """
    return json.dumps(
        value, ensure_ascii=False, indent=indent, allow_nan=allow_nan, default=default
    ).translate(_IN_JSON)


def write_rows(file: TextIO, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as CSV that no spreadsheet runs.

    A text that begins like a formula gets an apostrophe before it, and its row quotation marks around every text.
    Numbers, and texts that are numbers, stay as they are; control characters are shown as escapes.

    Args:
        file: Open text.
        rows: Numbers, texts, None for an empty cell; anything else by its `str`.
    """
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in rows:
        texts = [_cell(cell) for cell in row]
        guarded = [f"'{text}" if isinstance(text, str) and _runs(text) else text for text in texts]
        (plain if guarded == texts else quoted).writerow(guarded)


def _cell(value: object) -> object:
    return value if value is None or isinstance(value, int | float) else printable(str(value))


def _runs(text: str) -> bool:
    return _FORMULA.match(text) is not None and not _NUMBER.fullmatch(text)
