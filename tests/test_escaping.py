"""What comes from files is shown and never obeyed: not by a terminal, a log, a reader or a spreadsheet."""

import csv
import io
import json

import pytest

from medlike.escaping import printable, printable_json, printable_lines, write_rows

# ESC, BEL, backspace, DEL, C1 (CSI, NEL), line separator, marks and overrides of direction, half a pair.
OBEYED = (
    "\x1b\x07\x08\x7f\x9b\x85\u2028\u2029\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e"
    "\u2066\u2067\u2068\u2069\udc80"
)


@pytest.mark.parametrize("letter", [*OBEYED, "\n", "\r", "\t", "\0"])
def test_control_characters_are_shown_as_escapes(letter):
    shown = printable(f"a{letter}b")
    assert letter not in shown and shown.isprintable() and shown.startswith("a\\") and shown.endswith("b")
    document = printable_json({"name": letter}, indent=1)
    assert letter not in document.replace("\n", "", 9) or letter == "\n"
    assert all(each == "\n" or each.isprintable() for each in document)
    assert json.loads(document) == {"name": letter}


def test_ordinary_text_stays_as_it_is():
    for text in ("Lunge, links", "胸部X線", "صدر", "naïve 𝔸 - 3 % @ 4", "a\\nb"):
        assert printable(text) == text and json.loads(printable_json(text)) == text
    assert printable_lines("a\nb\x1b") == "a\nb\\x1b"


def written(*rows):
    file = io.StringIO()
    write_rows(file, rows)
    return file.getvalue()


@pytest.mark.parametrize(
    "formula",
    ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", " =1", "=HYPERLINK(1)", "＝1", "＋1", "－x",
     "＠x", "'=1", "-", "+1-1", "-1e5000", "=\n1"],
)  # fmt: skip
def test_a_cell_is_never_a_formula(formula):
    line = written(("a", formula))
    (row,) = csv.reader(io.StringIO(line))
    assert row[1].startswith(("'", "\\")) and line.count("\n") == 1
    assert line.startswith('"a","\'') or row[1].startswith("\\")


def test_numbers_stay_numbers():
    assert written((-1, -0.5, 3, None, "-0.52", "+3", "-1e-05", "a", True)) == "-1,-0.5,3,,-0.52,+3,-1e-05,a,True\n"


def test_a_cell_holds_no_line_break_and_no_control_character():
    assert written(("a\nb", "\x1b[31m", "\u202e")) == "a\\nb,\\x1b[31m,\\u202e\n"


def test_cells_with_commas_and_quotation_marks_are_quoted():
    text = written(("a,b", 'c"d', "=x,y"))
    assert list(csv.reader(io.StringIO(text))) == [["a,b", 'c"d', "'=x,y"]]
