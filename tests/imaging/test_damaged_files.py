"""Damaged files of every kind: an image or an ImageError, and not a word on the screen."""

import io
import subprocess
import sys
import threading
import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from tests.imaging import fuzz

from medlike.errors import ImageError
from medlike.imaging import prepare, read

GREY = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)


SAMPLES = fuzz.samples()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_files(tmp_path, kind, data):
    content = bytearray(SAMPLES[kind])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    else:
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=12)):
            content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content)
    try:
        for image in read(tmp_path / "a", frames="all"):
            assert prepare(image).pixels.shape == (224, 224)
            break
    except ImageError as error:
        assert str(error)


def test_nothing_on_stderr(tmp_path):
    """In a fresh process with all warnings on: not a line, for damaged files of every kind."""
    deflated = io.BytesIO()
    PillowImage.fromarray(np.tile(np.arange(90, dtype=np.uint16) * 500, (70, 1))).save(
        deflated, "TIFF", compression="tiff_deflate"
    )
    for kind, content in {**SAMPLES, "DEFLATED": deflated.getvalue()}.items():
        (tmp_path / f"cut {kind}").write_bytes(content[: len(content) * 2 // 3])
        (tmp_path / f"flipped {kind}").write_bytes(
            bytes(b ^ (37 * (i % 41 == 40)) for i, b in enumerate(content))
        )
    code = (
        "import sys\nfrom medlike.errors import ImageError\n"
        "from medlike.imaging import discover, load, prepare\n"
        "for source in discover([sys.argv[1]], frames='all'):\n"
        "    try:\n        for image in load(source): prepare(image)\n"
        "    except ImageError as refusal: print(refusal)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) >= 8


def test_warnings_are_back_after_reading_in_many_threads(write_dicom):
    before = list(warnings.filters)
    paths = [write_dicom(f"{k}.dcm", GREY) for k in range(8)]
    found = []
    threads = [
        threading.Thread(target=lambda p=path: found.extend(i.digest for _ in range(10) for i in read(p)))
        for path in paths
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert len(found) == 80 and len(set(found)) == 1


def test_files_damaged_by_chance_are_read_or_refused():
    counts, wrong = fuzz.run(120, seed=7)
    assert not wrong
    assert sum(counts.values()) == 120
    assert counts["refused with a reason"] > 20 and counts["read"] > 5
