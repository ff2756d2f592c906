"""A bit that flips in the index is found before it changes an answer, and the index is built anew."""

import numpy as np
import pytest

from medlike import Archive
from medlike.archive.index import checks
from medlike.archive.index.checks import Checked, IndexDamaged, sealed, sums, unsealed


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_each_block_is_compared_once_and_only_where_it_is_touched(monkeypatch, tmp_path):
    array = np.arange(60_000, dtype="<i4").reshape(-1, 2)
    expected = sums(array)
    assert len(expected) == 4 and checks.rows_of_a_block(array) == 8192
    changed = array.copy()
    changed[20_000, 1] ^= 1
    check = Checked(tmp_path, changed, expected)
    assert check.array(np.array([3, 29_999, 4])) is changed and check.array(8192) is changed
    for rows in (20_000, np.array([0, 17_000]), None):
        with pytest.raises(IndexDamaged, match="damaged"):
            check.array(rows)
    changed[20_000, 1] ^= 1
    check.array()
    monkeypatch.setattr(checks.zlib, "crc32", None)
    assert check.array(20_000) is changed and check.array() is changed


@pytest.mark.parametrize("shape", [(0,), (0, 4), (5, 0), (1,)])
def test_arrays_without_bytes_have_checks_too(tmp_path, shape):
    array = np.zeros(shape, "u1")
    check = Checked(tmp_path, array, sums(array))
    assert check.sound() and check.array() is array


def test_a_sealed_document_is_refused_if_any_bit_of_what_it_says_flips():
    facts = {"generation": 7, "segments": ["ab"], "purged": -1}
    document = sealed(facts)
    assert unsealed(document) == facts
    for at in range(len(document)):
        for bit in range(8):
            changed = bytearray(document)
            changed[at] ^= 1 << bit
            try:
                assert unsealed(bytes(changed)) == facts  # a blank that became another one
            except ValueError:
                continue
    with pytest.raises(ValueError, match="not what was written"):
        unsealed(document.replace(b"7", b"5"))


@pytest.mark.parametrize("name", ["codes.bin", "content.bin", "ids.bin", "rows.bin", "segment.json"])
def test_a_flipped_bit_in_the_index_costs_no_answer(archive, pictures, encoder, name):
    folder = pictures(12)
    archive.add(folder)
    archive.reindex()
    expected = archive.search(folder / "0003.png", k=12).receipt["answer"]
    archive.close()
    (file,) = archive._folder.index.glob(f"*/*/{name}")
    flip(file, file.stat().st_size // 2)
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.search(folder / "0003.png", k=12).receipt["answer"] == expected
        assert again.verify() == []
    with Archive.open(archive.path, encoder=encoder) as later:
        assert later.search(folder / "0003.png", k=12).receipt["answer"] == expected
        assert later.verify() == []


def test_verify_finds_a_flipped_checksum(archive, pictures, encoder):
    archive.add(pictures(3))
    archive.reindex()
    archive.close()
    (file,) = archive._folder.index.glob("*/*/checks.bin")
    flip(file, 0)
    with Archive.open(archive.path, encoder=encoder) as again:
        assert [problem.part for problem in again.verify()] == ["index"]
        again.reindex()
        assert again.verify() == []


def test_verify_compares_blocks_that_were_sound_before(archive, pictures):
    folder = pictures(3)
    archive.add(folder)
    archive.reindex()
    archive.search(folder / "0001.png")
    (file,) = archive._folder.index.glob("*/*/codes.bin")
    with file.open("r+b") as opened:
        first = opened.read(1)
        opened.seek(0)
        opened.write(bytes([first[0] ^ 1]))
    assert [problem.part for problem in archive.verify()] == ["index"]


@pytest.mark.parametrize("name", ["rows.bin", "label.bin"])
def test_a_flipped_bit_in_the_index_costs_no_listing(archive, labelled, encoder, name):
    archive.add(labelled)
    archive.reindex()
    expected = archive.browse({"label": "hand"})
    assert expected.total == 2
    archive.close()
    (file,) = archive._folder.index.glob(f"*/*/{name}")
    flip(file, 0, bit=1)
    with Archive.open(archive.path, encoder=encoder) as again:
        assert again.browse({"label": "hand"}) == expected


@pytest.fixture
def labelled(pictures, tmp_path):
    """A manifest of two chests and two hands."""
    folder, manifest = pictures(4), tmp_path / "manifest.csv"
    lines = [f"{folder / f'{at:04}.png'},{'chest' if at % 2 else 'hand'}" for at in range(4)]
    manifest.write_text("\n".join(["path,label", *lines]) + "\n")
    return manifest
