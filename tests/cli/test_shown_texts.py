"""Names, labels, texts and reasons from files reach neither a terminal nor a spreadsheet as commands."""

import csv
import io
import json
import re
import shutil

import pytest

from .conftest import medlike

EVIL = "\x1b[31m\x9b2J\u202e\u2066\u200f\r\nforged: line"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def evil(sources, tmp_path_factory):
    """An archive of pictures whose names, labels and texts hold control characters and formulas."""
    folder = tmp_path_factory.mktemp("evil")
    pictures = sorted(sources.glob("*.jpg"))[:3]
    names = [f"=1+1{EVIL}.jpg", f"@b{EVIL}.jpg", "-c.jpg"]
    for picture, name in zip(pictures, names, strict=True):
        shutil.copy(picture, folder / name)
    (folder / f"bad{EVIL}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "text", "age", f"col{EVIL}"])
        rows.writerows([[name, f"=label{EVIL}", f"=text{EVIL} effusion", f"x{EVIL}", EVIL] for name in names])
        rows.writerow([f"bad{EVIL}.png", "", "", "", ""])
    archive = folder / "archive"
    done = medlike("index", folder / "manifest.csv", "--archive", archive)
    return folder, archive, names, done


def harmless(done):
    assert not OBEYED.search(done.out) and not OBEYED.search(done.err), (done.out, done.err)
    assert not any(line.startswith("forged") for line in (done.out + "\n" + done.err).splitlines())
    return done


def test_indexing(evil):
    folder, archive, _, done = evil
    assert harmless(done).code == 3
    again = harmless(medlike("index", folder / "manifest.csv", "--archive", archive, "--format", "json"))
    assert json.loads(again.out)["skipped"][0]["path"].endswith(f"bad{EVIL}.png")


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_searching(evil, format):
    folder, archive, names, _ = evil
    for words in ([folder / names[0]], [folder / names[0], "--text", "effusion"]):
        done = harmless(medlike("search", *words, "--archive", archive, "--format", format))
        assert done.code == 0, done.err
        if format == "json":
            assert any(EVIL in hit["metadata"]["label"] for hit in done.json["hits"])
        if format == "csv":
            for row in csv.reader(io.StringIO(done.out)):
                assert not any(cell.startswith(("=", "@", "\t", "\r")) for cell in row)


@pytest.mark.parametrize("format", ["table", "json", "csv"])
def test_triage(evil, format):
    folder, _, _, _ = evil
    done = harmless(medlike("triage", folder / "manifest.csv", "--all", "--format", format))
    assert done.code == 3


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize("format", ["table", "json"])
def test_looking_after(evil, command, format):
    harmless(medlike(command, "--format", format, "--archive", evil[1]))


def test_errors(evil):
    folder, archive, _, _ = evil
    done = harmless(medlike("search", folder / f"bad{EVIL}.png", "--archive", archive))
    assert done.code == 1 and len(done.err.strip().splitlines()) == 1
    harmless(medlike("search", folder / "manifest.csv", "--archive", folder / EVIL))
    harmless(medlike("bundle", "info", f"no{EVIL}"))
