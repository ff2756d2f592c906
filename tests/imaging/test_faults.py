"""faults.py tells right from wrong and from refused, and finds nothing wrong in the collection of faults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

SCRIPT = Path(__file__).with_name("faults.py")
COLLECTION = Path(os.environ.get("MEDLIKE_DEV", "/nonexistent")) / "faults"


def run(folder):
    """Exit code and rows (name to verdict) of the script, and its last line."""
    done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=False)
    assert not done.stderr
    *rows, counts = done.stdout.splitlines()
    return done.returncode, dict(row.split(maxsplit=1) for row in rows), counts


def case(folder, name, pixels, expected=None, **members):
    PillowImage.fromarray(pixels).save(folder / f"{name}.png")
    if expected is not None:
        np.savez(folder / f"{name}.npz", **expected)
        members["arrays"] = f"{name}.npz"
    (folder / f"{name}.case.json").write_text(json.dumps({"name": name, "file": f"{name}.png", **members}))


def test_a_row_for_each_input(tmp_path):
    pixels = np.arange(0, 240, 2, dtype=np.uint8).reshape(8, 15)
    case(tmp_path, "right", pixels, {"pixels": pixels, "render": pixels + 1, "colour": np.stack([pixels] * 3, axis=2)})
    case(tmp_path, "in_tolerance", pixels, {"pixels": pixels + 3}, tol=3)
    case(tmp_path, "wrong_pixels", pixels, {"pixels": pixels + 1})
    case(tmp_path, "wrong_shape", pixels, {"pixels": pixels.T})
    case(tmp_path, "wrong_render", pixels, {"render": 255 - pixels})
    case(tmp_path, "wrong_count", pixels, count=2, frames="all")
    case(tmp_path, "wrong_metadata", pixels, meta={"age": 34.0})
    case(tmp_path, "refused", pixels, {"pixels": pixels})
    (tmp_path / "refused.png").write_bytes((tmp_path / "right.png").read_bytes()[:40])
    code, rows, counts = run(tmp_path)
    assert code == 1
    assert rows.pop("right") == rows.pop("in_tolerance") == "right"
    assert rows.pop("refused").startswith("refused: ")
    assert "by 1 at most" in rows["wrong_pixels"]
    assert "(8, 15), (15, 8) expected" in rows["wrong_shape"]
    assert "34.0 expected" in rows["wrong_metadata"]
    assert all(row.startswith("WRONG: ") for row in rows.values())
    assert counts == "8 inputs: 2 right, 1 refused, 5 wrong"


def test_names_in_texts(tmp_path, write_dicom):
    pixels = np.arange(0, 240, 2, dtype=np.uint8).reshape(8, 15)
    for name, planted in (("held", "follow-up"), ("not_held", "KOWALSKA"), ("part_of_a_word", "est")):
        write_dicom(f"{name}.dcm", pixels, StudyDescription="CHEST FOLLOW-UP")
        (tmp_path / f"{name}.case.json").write_text(
            json.dumps({"name": name, "file": f"{name}.dcm", "nottext": [planted]})
        )
    code, rows, _ = run(tmp_path)
    assert code == 1
    assert rows["held"] == "WRONG: description holds 'follow-up': 'CHEST FOLLOW-UP'"
    assert rows["not_held"] == rows["part_of_a_word"] == "right"


def test_nothing_wrong(tmp_path):
    pixels = np.arange(0, 240, 2, dtype=np.uint8).reshape(8, 15)
    case(tmp_path, "right", pixels, {"pixels": pixels})
    assert run(tmp_path) == (0, {"right": "right"}, "1 inputs: 1 right, 0 refused, 0 wrong")


@pytest.mark.collections
@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the collection of faults is absent: set MEDLIKE_DEV to its folder")
def test_collection_of_faults():
    code, rows, counts = run(COLLECTION)
    assert code == 0, [f"{name}: {row}" for name, row in rows.items() if row.startswith("WRONG")]
    assert counts.endswith(" 0 wrong")
