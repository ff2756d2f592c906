"""A hit that matches mirrored says so."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image as PillowImage

import medlike
from medlike import Archive, Query, Result
from medlike.archive.search.hits import MIRRORED_SHARE, equal_bits, is_mirrored
from medlike.cli.answers import write_csv


def grids(seed=0):
    random = np.random.default_rng(seed)
    cells = random.integers(0, 2**63, (14, 14, 2), dtype=np.int64).astype(np.uint64)
    return cells, random.random((14, 14)) < 0.7


def naive(cells, stored, mask):
    """The share of equal bits by Python's own numbers."""
    shares = np.full((14, 14), np.nan, np.float32)
    for row, column in np.argwhere(mask):
        words = zip(cells[row, column].tolist(), stored[row, column].tolist(), strict=True)
        shares[row, column] = 1 - sum((one ^ other).bit_count() for one, other in words) / 128
    return shares


def test_equal_bits_are_counted_in_the_cells_of_both():
    (cells, mask), (stored, _) = grids(), grids(1)
    np.testing.assert_array_equal(equal_bits(cells, stored, mask), naive(cells, stored, mask))


def test_images_are_mirrored_where_they_agree_so_and_better_than_as_they_are():
    cells, mask = grids()
    alike = equal_bits(cells, cells, mask)
    other = equal_bits(cells[:, ::-1], cells, mask)
    assert is_mirrored(other, alike) and not is_mirrored(alike, other) and not is_mirrored(alike, alike)
    assert not is_mirrored(other, np.where(np.isnan(alike), alike, np.float32(MIRRORED_SHARE - 0.01)))
    nothing = np.full((14, 14), np.nan, np.float32)
    assert is_mirrored(nothing, alike) and not is_mirrored(alike, nothing)


@pytest.mark.slow
def test_a_mirrored_copy_finds_an_original_that_says_so(tmp_path, capsys):
    files = sorted(file for file in medlike.samples().rglob("*") if file.suffix in (".png", ".jpg"))[:12]
    with Archive.create(tmp_path / "archive") as archive:
        archive.add(files)
        marked = {}
        for file in files:
            picture = np.asarray(PillowImage.open(file).convert("L"))
            result = archive.search(Query(image=np.ascontiguousarray(picture[:, ::-1])), k=12)
            assert not any(hit.mirrored for hit in archive.search(Query(image=picture), k=12))
            marked[file] = [hit.rank for hit in result if hit.mirrored]
            if marked[file]:
                assert json.loads(result.to_json())["hits"][0].get("mirrored") and Result.from_dict(result.to_dict())[0]
                write_csv(result)
                rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
                assert [row["mirrored"] for row in rows] == ["yes"] + [""] * 11
    assert all(ranks in ([], [1]) for ranks in marked.values()) and sum(map(len, marked.values())) >= 6
