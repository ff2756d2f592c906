"""Folders, globs, files and manifests into sources."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from medlike.errors import ImageError
from medlike.imaging import discover, load

GREY = np.arange(100, dtype=np.uint8).reshape(10, 10)


@pytest.fixture
def folder(tmp_path):
    """A folder as they are found: images in sub-folders, and what lies about."""
    for name in ("b/2.png", "b/10.png", "a.png", "c/d/e.png", "山/画像.png", "Émile.PNG"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(GREY).save(path)
    root = tmp_path / "scans"
    (root / "notes.txt").write_text("notes")
    (root / "list.csv").write_text("path\na.png\n")
    (root / "README").write_text("words")
    (root / "LICENSE").write_text("words")
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (root / ".hidden.png").write_bytes(b"x")
    (root / ".cache").mkdir()
    (root / ".cache" / "z.png").write_bytes(b"x")
    (root / "Thumbs.db").write_bytes(b"x")
    (root / "report").write_bytes(b"%PDF-1.4")
    return root


def names(root, sources):
    return [os.path.relpath(source.path, root) for source in sources]


EXPECTED = ["a.png", "b/10.png", "b/2.png", "c/d/e.png", "Émile.PNG", "山/画像.png"]


def test_a_folder_is_walked_in_order_without_what_lies_about(folder):
    found = names(folder, discover([folder]))
    assert found == EXPECTED
    assert found == names(folder, discover([str(folder)]))
    assert [image.pixels.tolist() for source in discover([folder]) for image in load(source)] == [
        GREY.tolist()
    ] * 6


def test_damage_in_a_folder_is_not_passed_over(folder):
    (folder / "IM0001").write_bytes(b"\x00\x01\x02\xff" * 50)
    (folder / "empty").write_bytes(b"")
    (folder / "text.dcm").write_text("words")
    (folder / "gone.png").symlink_to(folder / "nowhere")
    extra = set(names(folder, discover([folder]))) - set(EXPECTED)
    assert extra == {"IM0001", "empty", "text.dcm", "gone.png"}
    for source in discover([folder]):
        if os.path.relpath(source.path, folder) in extra:
            with pytest.raises(ImageError):
                list(load(source))


def test_globs(folder):
    assert names(folder, discover([f"{folder}/b/*.png"])) == ["b/10.png", "b/2.png"]
    assert names(folder, discover([f"{folder}/**/*.png"])) == [
        n for n in sorted(EXPECTED) if n != "Émile.PNG"
    ]
    assert names(folder, discover([f"{folder}/[bc]"])) == ["b/10.png", "b/2.png", "c/d/e.png"]
    (only,) = discover([f"{folder}/*.nope"])
    assert "no file matches" in only.problem


def test_archives_are_passed_over_and_said(folder):
    archive, passed = folder / "c" / "archive", []
    (archive / "pixels").mkdir(parents=True)
    PillowImage.fromarray(GREY).save(archive / "pixels" / "preview.png")
    (archive / "archive.json").write_text("{}")
    assert names(folder, discover([folder])) == sorted([*EXPECTED, "c/archive/pixels/preview.png"])
    (archive / "store.sqlite").touch()
    for given in (folder, f"{folder}/**/*.*", f"{folder}/*", f"{folder}/c/arch*"):
        found = names(folder, discover([given], passed_over=passed.append))
        assert "c/archive/pixels/preview.png" not in found
        assert passed.pop() == str(archive) and not passed
    assert names(folder, discover([folder])) == EXPECTED
    (refused,) = discover([archive])
    assert "is an archive" in refused.problem
    # What is written out is meant.
    assert names(folder, discover([f"{archive}/pixels/*.png"])) == ["c/archive/pixels/preview.png"]


def test_a_name_with_glob_characters_is_a_name(folder):
    (folder / "a.png").rename(folder / "a[1].png")
    assert names(folder, discover([folder / "a[1].png"])) == ["a[1].png"]


def test_what_is_named_is_never_passed_over(folder):
    for name in ("notes.txt", ".hidden.png", "DICOMDIR", "report", "absent.png"):
        (source,) = discover([folder / name])
        with pytest.raises(ImageError):
            list(load(source))


def test_order_given_is_kept(folder):
    found = names(folder, discover([folder / "c", folder / "a.png", folder / "b"]))
    assert found == ["c/d/e.png", "a.png", "b/10.png", "b/2.png"]


def test_loops_and_links(folder, tmp_path):
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    PillowImage.fromarray(GREY).save(outside / "x.png")
    (outside / "back").symlink_to(folder)
    (folder / "link").symlink_to(outside)
    (folder / "link2").symlink_to(outside)
    found = names(folder, discover([folder]))
    assert [n for n in found if n != "self"] == sorted([*EXPECTED, "link/x.png"], key=lambda n: n.split("/"))


def test_special_files_are_not_opened(folder):
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.png")
    found = names(folder, discover([folder]))
    assert "pipe" not in found
    (source,) = discover([folder / "pipe.png"])
    with pytest.raises(ImageError, match="regular"):
        list(load(source))


def test_discovery_is_lazy(tmp_path, monkeypatch):
    """The first files come before later folders are listed."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        PillowImage.fromarray(GREY).save(tmp_path / name / "1.png")
    listed = []
    original = Path.iterdir

    def watched(path):
        listed.append(path.name)
        return original(path)

    monkeypatch.setattr(Path, "iterdir", watched)
    assert len(list(islice(discover([tmp_path]), 1))) == 1
    assert "b" not in listed and "a" in listed


COUNT_AND_PEAK = """
import sys, tracemalloc
from medlike.imaging import discover
tracemalloc.start()
print(sum(1 for _ in discover([sys.argv[1]])), tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
def test_a_long_manifest_is_not_held(tmp_path):
    """In a process of its own: what other tests left behind, such as the table of interned names, is not counted."""
    with (tmp_path / "m.csv").open("w") as file:
        file.write("path,text\n")
        for number in range(50_000):
            file.write(f"{number}.png,{'word ' * 20}\n")
    words = [sys.executable, "-c", COUNT_AND_PEAK, str(tmp_path / "m.csv")]
    count, peak = map(int, subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert count == 50_000
    assert peak < 10_000_000


def test_frames_travel_with_the_source(tmp_path):
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5, 6), np.uint8), photometric="minisblack")
    for frames, count in (("middle", 1), ("all", 4), (2, 2)):
        (source,) = discover([tmp_path], frames=frames)
        assert len(list(load(source))) == count
    (source,) = discover([tmp_path])
    assert len(list(load(source, frames="all"))) == 4
    with pytest.raises(ImageError):
        discover([tmp_path], frames="some")


def test_names_that_are_no_text(folder):
    (folder / "a.png").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.png"))
    (bad,) = [source for source in discover([folder]) if source.problem]
    assert bad.path.encode().endswith(b".png")
    with pytest.raises(ImageError, match="UTF-8"):
        list(load(bad))


def test_names_that_cannot_be_names():
    for name in ("", "a\0b"):
        (source,) = discover([name])
        assert source.problem
