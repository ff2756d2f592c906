"""Pictures over HTTP are those that medlike draws, whatever the photometry of the file."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from medlike.imaging import Window, read, render_colour, scaled
from medlike.service.routes import pictures

from .conftest import PEER
from .dicoms import write_dicom, write_kinds

GREY = ("signed", "monochrome1", "voi lut", "padded", "sigmoid", "frames", "grey", "wide", "float")
KINDS = (*GREY, "palette", "colour")


def shown(response):
    assert response.status_code == 200, response.text
    return np.asarray(Pillow.open(io.BytesIO(response.content)))


def original(kinds, kind):
    return next(read(kinds.files[kind], "middle"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_rendered_as_medlike_renders_it(kinds, kind):
    image = original(kinds, kind)
    expected = render_colour(image)
    assert expected.min() < 60 and expected.max() > 120
    path = f"images/{kinds.ids[kind]}/rendered"
    response = kinds.get(path)
    assert response.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(shown(response), expected)
    np.testing.assert_array_equal(shown(kinds.get(path, params={"size": 48})), scaled(expected, 48))
    np.testing.assert_array_equal(shown(kinds.get(path, params={"size": 16384})), expected)
    lossless = np.asarray(Pillow.open(io.BytesIO(kinds.get(path, params={"format": "webp"}).content)))
    np.testing.assert_array_equal(lossless if expected.ndim == 3 else lossless[:, :, 0], expected)


@pytest.mark.parametrize("kind", GREY)
def test_a_window_is_applied_in_modality_units(kinds, kind):
    image = original(kinds, kind)
    for window, level in ((700.0, 150.0), (1.0, 3.0), (0.5, 0.25), (10.0, 1e6)):
        expected = render_colour(image, Window(level, window))
        path = f"images/{kinds.ids[kind]}/rendered"
        np.testing.assert_array_equal(shown(kinds.get(path, params={"window": window, "level": level})), expected)
        inverted = replace(image, photometry=replace(image.photometry, inverted=not image.photometry.inverted))
        response = kinds.get(path, params={"window": window, "level": level, "invert": True})
        np.testing.assert_array_equal(shown(response), render_colour(inverted, Window(level, window)))


def test_a_window_is_that_of_the_standard(kinds):
    """PS3.3 C.11.2.1.2.1, pixel by pixel, of a CT in Hounsfield units."""
    units = original(kinds, "signed").pixels.astype(float) - 24
    c, w = 40.0, 400.0
    y = ((units - (c - 0.5)) / (w - 1) + 0.5) * 255
    y[units <= c - 0.5 - (w - 1) / 2], y[units > c - 0.5 + (w - 1) / 2] = 0, 255
    response = kinds.get(f"images/{kinds.ids['signed']}/rendered", params={"window": 400, "level": 40})
    np.testing.assert_array_equal(shown(response), np.floor(y + 0.5).astype(np.uint8))


def test_quality_of_a_webp_costs_detail(kinds):
    path = f"images/{kinds.ids['grey']}/rendered"
    sizes = [len(kinds.get(path, params={"format": "webp", **more}).content) for more in ({}, {"quality": 30})]
    assert sizes[1] < sizes[0] / 3


@pytest.mark.parametrize(
    ("kind", "params", "sentence"),
    [
        ("signed", {"window": 400}, "window and level belong together"),
        ("signed", {"level": 400}, "window and level belong together"),
        ("signed", {"window": 0, "level": 1}, "window is '0': give more than 0"),
        ("signed", {"window": "nan", "level": 1}, "window is "),
        ("signed", {"window": "inf", "level": 1}, "window is "),
        ("signed", {"window": 5, "level": "1e13"}, "level is "),
        ("signed", {"size": 15}, "size is "),
        ("signed", {"size": 16385}, "size is "),
        ("signed", {"format": "bmp"}, "format is 'bmp': use 'png' or 'webp'"),
        ("signed", {"quality": 50}, "quality is of WebP"),
        ("signed", {"quality": 101, "format": "webp"}, "quality is "),
        ("signed", {"frame": 1}, "frame is 1: the file of"),
        ("frames", {"frame": 3}, "has 3, numbered from 0"),
        ("frames", {"frame": -1}, "frame is "),
        ("colour", {"window": 5, "level": 1}, "is in colour"),
        ("palette", {"invert": True}, "is in colour"),
        ("signed", {"widnow": 5}, "'widnow' is not a parameter of"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kinds, kind, params, sentence):
    response = kinds.get(f"images/{kinds.ids[kind]}/rendered", params=params)
    assert response.status_code == 422 and sentence in response.json()["detail"]


def test_other_frames_come_from_the_file(kinds):
    path = f"images/{kinds.ids['frames']}/rendered"
    for number, image in enumerate(read(kinds.files["frames"], "all")):
        response = kinds.get(path, params={"frame": number})
        np.testing.assert_array_equal(shown(response), render_colour(image))
        assert response.headers["cache-control"] == ("no-store")
    as_peer = kinds.get(path, params={"frame": 0}, headers={"authorization": f"Bearer {PEER}"})
    assert as_peer.status_code == 410 and "index it with all its frames" in as_peer.json()["detail"]
    assert kinds.get(path, params={"frame": 1}, headers={"authorization": f"Bearer {PEER}"}).status_code == 200


def test_other_frames_are_those_that_are_stored(served, archive, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 24)).astype(np.uint8)
    write_dicom(tmp_path / "three.dcm", pixels)
    archive.add(tmp_path / "three.dcm", "copy", "all", fit="never")
    (tmp_path / "three.dcm").unlink()
    first, *_ = archive.ids()
    for number in range(3):
        assert served.get(f"images/{first}/photometry", params={"frame": number}).json()["frame"] == number
        body = served.get(f"images/{first}/pixels", params={"frame": number}, headers={"accept-encoding": ""}).content
        assert body == pixels[number].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_thumbnails_are_small_pictures(kinds, kind, format, monkeypatch):
    path = f"images/{kinds.ids[kind]}/thumbnail"
    expected = render_colour(original(kinds, kind))
    for size in (16, 128, 512):
        response = kinds.get(path, params={"size": size, "format": format})
        assert response.headers["content-type"] == f"image/{format}"
        small = shown(response)
        longest = max(expected.shape[:2])
        assert max(small.shape[:2]) == min(size, longest)
        if size > 16:  # where JPEG has room for colours
            wanted = np.asarray(Pillow.fromarray(scaled(expected, size)).convert("RGB").resize(small.shape[1::-1]))
            assert np.abs(np.asarray(Pillow.fromarray(small).convert("RGB")).astype(int) - wanted).mean() < 12
    # The second time it comes from memory, the same, and no thread is asked.
    monkeypatch.setattr(pictures, "run_in_threadpool", None)
    assert kinds.get(path, params={"size": 128, "format": format}).content == kinds.get(
        path, params={"format": format}
    ).content  # fmt: skip
    for size in (15, 513):
        assert kinds.get(path, params={"size": size}).status_code == 422


def test_the_picture_is_the_one_of_the_archive(kinds):
    for kind in KINDS:
        np.testing.assert_array_equal(
            shown(kinds.get(f"images/{kinds.ids[kind]}/picture")), kinds.archive.picture(kinds.ids[kind])
        )


def test_kept_pixels_serve_every_form(served, archive, tmp_path):
    files = write_kinds(tmp_path / "files")
    archive.add(files["monochrome1"], "copy", fit="never")
    expected = render_colour(next(read(files["monochrome1"])))
    files["monochrome1"].unlink()
    (id,) = archive.ids()
    np.testing.assert_array_equal(shown(served.get(f"images/{id}/rendered")), expected)
    np.testing.assert_array_equal(shown(served.get(f"images/{id}/picture")), expected)
    assert shown(served.get(f"images/{id}/thumbnail", params={"size": 64})).shape == (47, 64)
    assert archive.preview(id) is None


def test_pixels_that_are_gone_are_a_410_with_the_next_action(served, archive, tmp_path):
    files = write_kinds(tmp_path / "files")
    archive.add(files["grey"], "reference", fit="never")
    archive.add(files["wide"], "copy", fit="never")
    moved, deleted = archive.ids()
    files["grey"].rename(tmp_path / "elsewhere.png")
    files["wide"].unlink()
    for file in (archive.path / "pixels").rglob("*.pixels"):
        file.unlink()
    for form in ("rendered", "pixels", "photometry"):
        response = served.get(f"images/{moved}/{form}")
        assert response.status_code == 410 and response.headers["content-type"] == "application/problem+json"
        assert "`medlike index`" in response.json()["detail"] and str(tmp_path) not in response.text
        response = served.get(f"images/{deleted}/{form}")
        assert response.status_code == 410 and "restore them from a backup" in response.json()["detail"]
    assert shown(served.get(f"images/{moved}/thumbnail")).shape == (128, 91)
    assert served.get(f"images/{deleted}/thumbnail").status_code == 410
    assert served.get(f"images/{deleted}/picture").status_code == 410
    # What the sentence says helps.
    archive.add(tmp_path / "elsewhere.png", "reference", fit="never")
    assert served.get(f"images/{moved}/rendered").status_code == 200


def test_a_changed_file_is_not_shown_for_the_image(served, archive, tmp_path):
    files = write_kinds(tmp_path / "files")
    archive.add(files["grey"], "reference", fit="never")
    Pillow.new("L", (500, 700), 9).save(files["grey"])
    assert served.get(f"images/{archive.ids()[0]}/rendered").status_code == 410


def test_a_removed_image_is_unknown_at_once(served, archive, tmp_path):
    archive.add(write_kinds(tmp_path / "files")["grey"], "reference", fit="never")
    (id,) = archive.ids()
    forms = ("", "/rendered", "/thumbnail", "/picture", "/pixels", "/photometry")
    tags = [served.get(f"images/{id}{form}").headers["etag"] for form in forms]
    archive.remove(id, erase=True)
    for form, tag in zip(forms, tags, strict=True):
        for method in ("GET", "HEAD"):
            response = served.request(method, f"images/{id}{form}", headers={"if-none-match": tag})
            assert response.status_code == 404, form
        problem = served.get(f"images/{id}{form}").json()
        assert problem["error"] == "UnknownImage" and "take an id from a search" in problem["detail"]


def test_only_so_many_pictures_are_drawn_at_once(kinds, monkeypatch):
    monkeypatch.setattr("medlike.service.routes.pictures.PATIENCE", 0.01)
    waiting = kinds.service.renderings
    held = kinds.service.limits.renderings
    for _ in range(held):
        assert waiting.acquire(blocking=False)
    try:
        response = kinds.get(f"images/{kinds.ids['wide']}/rendered")
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
    finally:
        for _ in range(held):
            waiting.release()
    assert kinds.get(f"images/{kinds.ids['wide']}/rendered").status_code == 200
