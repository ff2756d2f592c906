"""The list that leads from a report's neutral names to files: its owner's alone, and no formula for a spreadsheet."""

import csv
import os
import stat

from medlike.datasets.image_names import image_name, write_names
from medlike.files import PRIVATE, write_text


def test_names_count_from_one():
    assert [image_name(row) for row in (0, 16)] == ["image 1", "image 17"]


def test_a_path_is_no_formula_and_is_shown_in_full(tmp_path):
    rows = [("image 1", "=HYPERLINK(1).png", 0), ("image 2", "a/Grüße, 1\x1b.png", 3), ("file 1", "\udcff.png", "")]
    path = write_names(tmp_path, ("name", "path", "frame"), rows)
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert found[1][1] == "'=HYPERLINK(1).png" and found[2] == ["image 2", r"a/Grüße, 1\x1b.png", "3"]
    assert found[3][1] == r"\udcff.png"


def test_a_private_file_is_its_owners_whatever_was_there(tmp_path):
    path, other = tmp_path / "list", tmp_path / "other"
    path.write_text("old")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        write_text(path, "new", PRIVATE)
    finally:
        os.umask(before)
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    other.write_text("untouched")
    path.symlink_to(other)
    write_text(path, "new", PRIVATE)
    assert other.read_text() == "untouched" and not path.is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["list", "other"]
