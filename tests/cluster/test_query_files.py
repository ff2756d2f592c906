"""Images of queries as files: what a service reads is, bit for bit, what the client was given."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from medlike import samples
from medlike.cluster.query_files import query_file
from medlike.errors import ImageError, QueryError
from medlike.imaging import as_image, from_array, render, render_colour

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (30, 20), dtype=np.uint8)
ARRAYS = {
    "uint8": GREY,
    "bool": GREY > 99,
    "rgb": RANDOM.integers(0, 256, (30, 20, 3), dtype=np.uint8),
    "rgba": RANDOM.integers(0, 256, (30, 20, 4), dtype=np.uint8),
    "uint16": RANDOM.integers(0, 60000, (30, 20), dtype=np.uint16),
    "uint16 of 12 bits": RANDOM.integers(0, 4096, (30, 20), dtype=np.uint16),
    "rgb uint16": RANDOM.integers(0, 60000, (30, 20, 3), dtype=np.uint16),
    "int16": RANDOM.integers(-1024, 3000, (30, 20), dtype=np.int16),
    "int64": RANDOM.integers(-5, 300, (30, 20)),
    "float": RANDOM.normal(size=(30, 20)).astype(np.float32),
    "float of 0 to 1": RANDOM.random((30, 20)),
    "float rgb": RANDOM.random((30, 20, 3)),
    "big-endian": RANDOM.integers(0, 60000, (30, 20)).astype(">u2"),
    "one row": GREY[:1],
}


def read(upload, tmp_path):
    file = tmp_path / upload.name
    file.write_bytes(upload.open().read())
    return as_image(file)


def require_same(value, tmp_path):
    here, there = as_image(value), read(query_file(value), tmp_path)
    assert (render(here) == render(there)).all() and (render_colour(here) == render_colour(there)).all()
    return here.digest == there.digest


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_arrives_as_it_is(kind, tmp_path):
    # Values of 0 to 1 are on that scale, which a file does not say: they arrive as the encoder sees them.
    assert require_same(ARRAYS[kind], tmp_path) == (kind not in ("float of 0 to 1", "float rgb"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_a_pillow_picture_arrives_as_it_is(mode, tmp_path):
    picture = PillowImage.fromarray(GREY)
    assert require_same(picture.convert("I").convert(mode) if mode == "I;16" else picture.convert(mode), tmp_path)


def test_an_image_with_a_window_arrives_as_it_is_shown(tmp_path):
    windowed = from_array(ARRAYS["int16"], window=(40, 400))
    assert not require_same(windowed, tmp_path)
    assert (render(windowed) != render(from_array(ARRAYS["int16"]))).any()


def test_a_file_goes_as_it_is_under_no_name_of_its_own(tmp_path):
    file = tmp_path / "Doe Jane.dcm"
    file.write_bytes((samples() / "queries/ct-4-3.dcm").read_bytes())
    for value in (file, str(file), as_image(file)):
        upload = query_file(value)
        with upload.open() as opened:
            assert upload.name == "query.dcm" and opened.read() == file.read_bytes()


def test_what_a_file_cannot_hold_is_refused(tmp_path):
    with pytest.raises(QueryError, match="more than pixels"):
        query_file(replace(from_array(GREY), path=str(tmp_path / "moved.png")))
    with pytest.raises(ImageError, match="no file"):
        query_file(tmp_path / "absent.png")
    with pytest.raises(QueryError, match="object cannot be searched for"):
        query_file(object())
