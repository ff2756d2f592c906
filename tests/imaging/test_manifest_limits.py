"""No cell of a manifest stops the rows after it."""

import csv

import pytest

from medlike.imaging import discover
from medlike.imaging.manifest import read_manifest

CELLS = {
    "extra": [
        "[" * 3000 + "]" * 3000, '{"a":' * 3000 + "1" + "}" * 3000, '{"age": ' + "9" * 400 + "}",
        '{"grade": ' + "9" * 400 + "}", '{"grade": 1e999}', '{"grade": NaN}', '{"grade": -Infinity}',
        '{"note": "\\ud800"}', "9" * 5000, '{"grade": ' + "9" * 39 + "}",
    ],
    "boxes_xywh": ["[" * 3000, "[[1,2,3," + "9" * 400 + "]]", "[[NaN,1,1,1]]", "[[1e999,1,1,1]]", "[[1,2,3,Infinity]]"],
    "age": ["9" * 400, "1e999", "nan", "\0" * 50],
    "text": ["x" * 200_000, "a\0b", "\0"],
    "label": ["x" * 100_000, "\x1b[31m", "NaN"],
}  # fmt: skip


@pytest.mark.parametrize(("column", "cell"), [(c, cell) for c, cells in CELLS.items() for cell in cells])
def test_a_cell_never_stops_the_rows_after_it(tmp_path, archive_of, column, cell):
    archive, good = archive_of
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["path", column], ["bad.png", cell], [good.name, ""]])
    report = archive.add(tmp_path / "manifest.csv")
    assert report.added >= 1 and archive.verify() == []
    digest = {row.pixels for row in archive._store.images([1, 2]).values()}
    assert len(digest) == report.added


@pytest.fixture
def archive_of(tmp_path, tiny_bundle):
    import numpy as np
    from PIL import Image

    from medlike import Archive

    for name, seed in (("bad.png", 0), ("good.png", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    with Archive.create(tmp_path / "archive", tiny_bundle) as archive:
        yield archive, tmp_path / "good.png"


def test_what_is_beyond_a_limit_is_counted_as_left_out(tmp_path):
    (tmp_path / "m.csv").write_text('path,extra\na.png,"' + "[" * 3000 + '"\nb.png,plain words\n')
    rows = list(read_manifest(tmp_path / "m.csv"))
    assert rows[0].dropped == {"extra": "[" * 40}
    assert rows[1].metadata == {"extra": "plain words"}


def test_null_characters_are_taken_out_of_cells(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"path,label\na.png,lu\0ng\n")
    (row,) = read_manifest(tmp_path / "m.csv")
    assert row.metadata == {"label": "lung"}


def test_a_name_that_is_no_unicode_never_stops_a_batch(tmp_path, archive_of):
    import os
    import shutil

    archive, good = archive_of
    shutil.copy(good, os.fsencode(tmp_path) + b"/\xff\xfe.png")
    report = archive.add(tmp_path)
    assert report.added + len(report.duplicates) + len(report.skipped) >= 2
    assert list(discover([tmp_path], "middle", lambda path: None))
