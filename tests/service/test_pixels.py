"""Stored values over HTTP: exact, in parts, compressed, and with all that a viewer needs to show them."""

import base64
import gzip
import math

import numpy as np
import pytest
import zstandard

from medlike.imaging import Photometry, read, render_colour

from .test_pictures import GREY, KINDS, original

PLAIN = {"accept-encoding": "identity"}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_stored_values(kinds, kind):
    image = original(kinds, kind)
    path = f"images/{kinds.ids[kind]}/pixels"
    body = kinds.get(path, headers=PLAIN)
    assert "content-encoding" not in body.headers and body.headers["vary"] == "accept-encoding"
    shape = [int(side) for side in body.headers["x-pixel-shape"].split(", ")]
    kind = np.dtype(body.headers["x-pixel-type"]).newbyteorder("<")
    np.testing.assert_array_equal(np.frombuffer(body.content, kind).reshape(shape), image.pixels)
    assert kind == image.pixels.dtype


@pytest.mark.parametrize("kind", GREY)
def test_a_viewer_draws_what_is_rendered(kinds, kind):
    """By the description of /photometry alone: once by its table, once by its shading."""
    pixels = original(kinds, kind).pixels
    facts = kinds.get(f"images/{kinds.ids[kind]}/photometry").json()
    expected = render_colour(original(kinds, kind))
    assert facts["shape"] == list(pixels.shape) and facts["type"] == pixels.dtype.name
    assert Photometry.from_dict(facts["photometry"]) == original(kinds, kind).photometry
    if facts["table"] is None:
        assert kind == "float"
    else:
        table = np.frombuffer(base64.b64decode(facts["table"]["shown"]), np.uint8)
        np.testing.assert_array_equal(table[pixels.astype(int) - facts["table"]["first"]], expected)
    some = np.random.default_rng(0).choice(pixels.size, 500)
    np.testing.assert_array_equal([shown(facts, float(v)) for v in pixels.flat[some]], expected.flat[some])


def looked_up(lut, value):
    return lut["entries"][min(max(int(value) - lut["first"], 0), len(lut["entries"]) - 1)]


def shown(facts, stored):
    """One value as a viewer shows it, in float64 as browsers have it."""
    said, shading = facts["photometry"], facts["shading"]
    if said["padding"] and said["padding"][0] <= stored <= said["padding"][1]:
        return 0
    units = stored * said["slope"] + said["intercept"]
    if said["modality_lut"]:
        units = looked_up(said["modality_lut"], stored)
    if shading["kind"] == "voi_lut":
        lut = said["voi_lut"]
        value = spread(looked_up(lut, math.floor(units + 0.5)), 0, 2 ** lut["bits"] - 1)
    elif shading["kind"] == "range":
        value = spread(units, shading["low"], shading["high"])
    elif shading["function"] == "SIGMOID":
        value = math.floor(255 / (1 + math.exp(-4 * (units - shading["center"]) / shading["width"])) + 0.5)
    else:
        assert shading["function"] == "LINEAR"
        middle, half = shading["center"] - 0.5, (shading["width"] - 1) / 2
        value = spread(units, middle - half, middle + half)
    return 255 - value if said["inverted"] else value


def spread(units, low, high):
    return math.floor(min(max((units - low) * (255 / (high - low)), 0), 255) + 0.5)


def test_colour_needs_no_table(kinds):
    facts = kinds.get(f"images/{kinds.ids['colour']}/photometry").json()
    assert facts["shading"] is None and facts["table"] is None and facts["shape"][2] == 3


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("zstd, gzip", "zstd"), ("gzip, deflate, br", "gzip"), ("gzip;q=1, zstd;q=0.5", "gzip"), ("*", "zstd"),
        ("zstd;q=0, *;q=0.1", "gzip"), ("br", None), ("", None), ("gzip;q=0", None), ("gzip;q=x", None),
        ("GZIP ; Q=0.3", "gzip"), ("identity", None), (",;,=", None),
    ],
)  # fmt: skip
def test_the_coding_is_the_one_that_is_preferred(kinds, accepted, coding):
    path = f"images/{kinds.ids['signed']}/pixels"
    plain = kinds.get(path, headers=PLAIN)
    # Not through httpx, which undoes codings.
    with kinds.client.stream("GET", path, headers={"accept-encoding": accepted}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers.get("content-encoding") == coding and response.headers["vary"] == "accept-encoding"
    undone = {None: bytes, "gzip": gzip.decompress, "zstd": zstandard.ZstdDecompressor().decompress}[coding](raw)
    assert undone == plain.content
    assert (coding is None) == (response.headers["etag"] == plain.headers["etag"])
    again = {"accept-encoding": accepted, "if-none-match": response.headers["etag"]}
    assert kinds.get(path, headers=again).status_code == 304


@pytest.mark.parametrize(
    ("range", "part"),
    [
        ("bytes=0-99", slice(0, 100)), ("bytes=5-", slice(5, None)), ("bytes=-7", slice(-7, None)),
        ("bytes=100-999999999", slice(100, None)), ("bytes=-999999999", slice(0, None)),
        (" BYTES = 3 - 3 ", slice(3, 4)),
    ],
)  # fmt: skip
def test_a_range_of_pixels(kinds, range, part):
    path = f"images/{kinds.ids['signed']}/pixels"
    plain = kinds.get(path, headers=PLAIN)
    assert plain.headers["accept-ranges"] == "bytes"
    response = kinds.get(path, headers={"range": range, "accept-encoding": "gzip, zstd"})
    assert response.status_code == 206 and response.content == plain.content[part]
    first, last, size = part.indices(len(plain.content))[0], 0, len(plain.content)
    last = first + len(response.content) - 1
    assert response.headers["content-range"] == f"bytes {first}-{last}/{size}"
    assert response.headers["etag"] == plain.headers["etag"]


@pytest.mark.parametrize(
    "range", ["bytes=0-1,5-6", "bytes=9999999-", "bytes=5-4", "bytes=-0", "bytes=", "bytes=a-b", "bytes=1-2-3"]
)
def test_a_range_that_cannot_be_answered(kinds, range):
    response = kinds.get(f"images/{kinds.ids['signed']}/pixels", headers={"range": range})
    assert response.status_code == 416 and "ask for one" in response.json()["detail"]
    assert response.headers["content-range"] == f"bytes */{2 * 96 * 130}"


def test_a_range_of_another_version_is_all_of_it(kinds):
    path = f"images/{kinds.ids['signed']}/pixels"
    plain = kinds.get(path, headers=PLAIN)
    for asked, status in ((plain.headers["etag"], 206), ('"another"', 200)):
        response = kinds.get(path, headers={"range": "bytes=0-9", "if-range": asked})
        assert response.status_code == status
    assert kinds.get(path, headers={**PLAIN, "range": "lines=0-9"}).status_code == 200


def test_frames_of_a_file(kinds):
    for number, image in enumerate(read(kinds.files["frames"], "all")):
        response = kinds.get(f"images/{kinds.ids['frames']}/pixels", params={"frame": number}, headers=PLAIN)
        assert response.content == image.pixels.tobytes()
