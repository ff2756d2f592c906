"""The letterbox: where pixels go, the way back, and cells."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medlike.imaging import Letterbox, fingerprint, letterbox, perceptual_hash

SIDES = st.integers(1, 3000)


@st.composite
def boxes(draw):
    height, width = draw(SIDES), draw(SIDES)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return height, width, (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))


@given(boxes())
@example((1, 20000, (19999, 0, 20000, 1)))
@example((20000, 1, (0, 0, 1, 20000)))
def test_from_box_inverts_to_box(case):
    height, width, box = case
    place = Letterbox.of(height, width)
    inside = place.to_box(box)
    assert place.left <= inside[0] < inside[2] <= place.left + place.inner_width + 1e-9
    assert place.top <= inside[1] < inside[3] <= place.top + place.inner_height + 1e-9
    np.testing.assert_allclose(place.from_box(inside), box, rtol=0, atol=1e-9 * max(height, width))
    np.testing.assert_allclose(place.to_box(place.from_box(inside)), inside, rtol=0, atol=1e-9)


@given(SIDES, SIDES)
def test_the_whole_picture_fills_its_place(height, width):
    place = Letterbox.of(height, width)
    whole = place.to_box((0, 0, width, height))
    assert whole == (
        place.left,
        place.top,
        place.left + place.inner_width,
        place.top + place.inner_height,
    )
    assert max(place.inner_height, place.inner_width) == 224
    # Isotropic up to rounding to whole pixels, and centred.
    assert abs(place.inner_height - max(1, height * place.scale)) <= 0.5 + 1e-9
    assert abs(place.inner_width - max(1, width * place.scale)) <= 0.5 + 1e-9
    assert 0 <= 224 - place.inner_height - 2 * place.top <= 1
    assert 0 <= 224 - place.inner_width - 2 * place.left <= 1


@given(st.integers(20, 400), st.integers(20, 400), st.data())
def test_a_marked_pixel_is_where_its_box_says(height, width, data):
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    picture = np.zeros((height, width), np.uint8)
    picture[y, x] = 255
    square, place = letterbox(picture)
    x0, y0, x1, y1 = place.to_box((x, y, x + 1, y + 1))
    weight = square.astype(float)
    if weight.sum() == 0:
        # Spread so thin that it rounds to nothing: only far below one letterboxed pixel.
        assert (x1 - x0) * (y1 - y0) < 0.02
        return
    rows, columns = np.nonzero(square)
    assert rows.min() >= np.floor(y0 - max(1, y1 - y0)) and rows.max() + 1 <= np.ceil(y1 + max(1, y1 - y0))
    assert columns.min() >= np.floor(x0 - max(1, x1 - x0)) and columns.max() + 1 <= np.ceil(
        x1 + max(1, x1 - x0)
    )
    inside = 0 < x < width - 1 and 0 < y < height - 1
    if inside:
        centre = ((rows + 0.5) * weight[rows, columns]).sum() / weight.sum()
        assert abs(centre - (y0 + y1) / 2) < max(1.0, y1 - y0)


@given(st.integers(1, 300), st.integers(1, 300))
def test_padding_is_zero_and_the_picture_is_not(height, width):
    square, place = letterbox(np.full((height, width), 200, np.uint8))
    inside = np.zeros((224, 224), bool)
    inside[place.top : place.top + place.inner_height, place.left : place.left + place.inner_width] = True
    assert (square[inside] == 200).all()
    assert (square[~inside] == 0).all()


def test_a_square_of_224_is_left_alone():
    picture = np.random.default_rng(0).integers(0, 256, (224, 224)).astype(np.uint8)
    square, place = letterbox(picture)
    np.testing.assert_array_equal(square, picture)
    assert place.to_box((3, 4, 50, 60)) == (3, 4, 50, 60)


@given(SIDES, SIDES, st.sampled_from([7, 14, 28]))
def test_a_cell_is_valid_where_its_centre_is_image(height, width, grid):
    place = Letterbox.of(height, width)
    valid = place.valid_cells(grid)
    assert valid.shape == (grid, grid) and valid.dtype == bool and valid.any()
    side = 224 / grid
    for row in range(grid):
        for column in range(grid):
            y, x = (row + 0.5) * side, (column + 0.5) * side
            centre = (
                place.top <= y < place.top + place.inner_height
                and place.left <= x < place.left + place.inner_width
            )
            thin = min(place.inner_height, place.inner_width) < side
            assert valid[row, column] == centre or thin


def test_valid_cells_of_a_known_shape():
    valid = Letterbox.of(100, 200).valid_cells()
    assert valid.sum(axis=0).tolist() == [8] * 14 or valid.sum(axis=0).tolist() == [7] * 14
    assert not valid[0].any() and not valid[-1].any() and valid[7].all()
    assert Letterbox.of(1, 20000).valid_cells().sum() == 14


@given(boxes())
def test_cells_contain_the_box(case):
    height, width, box = case
    place = Letterbox.of(height, width)
    row0, column0, row1, column1 = place.cells(box)
    assert 0 <= row0 < row1 <= 14 and 0 <= column0 < column1 <= 14
    x0, y0, x1, y1 = place.to_box(box)
    assert 16 * row0 <= y0 + 1e-4 and y1 - 1e-4 <= 16 * row1
    assert 16 * column0 <= x0 + 1e-4 and x1 - 1e-4 <= 16 * column1
    # No larger than it must be.
    assert row1 - row0 == 1 or (y0 < 16 * (row0 + 1) and y1 > 16 * (row1 - 1))
    assert column1 - column0 == 1 or (x0 < 16 * (column0 + 1) and x1 > 16 * (column1 - 1))


@pytest.mark.parametrize(
    ("box", "cells"),
    [
        ((0, 0, 448, 448), (0, 0, 14, 14)),
        ((32, 64, 64, 96), (2, 1, 3, 2)),
        ((31, 64, 65, 96), (2, 0, 3, 3)),
        ((10, 10, 11, 11), (0, 0, 1, 1)),
        ((-50, -50, -10, -10), (0, 0, 1, 1)),
        ((900, 900, 990, 990), (13, 13, 14, 14)),
        ((447.9, 447.9, 448, 448), (13, 13, 14, 14)),
    ],
)
def test_cells_of_known_boxes(box, cells):
    assert Letterbox.of(448, 448).cells(box) == cells


def test_fingerprint_is_the_mean_of_14_by_14_blocks():
    square = np.random.default_rng(1).integers(0, 256, (224, 224)).astype(np.uint8)
    means = square.reshape(16, 14, 16, 14).mean(axis=(1, 3))
    assert fingerprint(square).dtype == np.uint8
    assert np.abs(fingerprint(square) - means).max() <= 1
    wide = np.random.default_rng(1).integers(0, 256, (100, 300)).astype(np.uint8)
    np.testing.assert_array_equal(fingerprint(wide), fingerprint(letterbox(wide)[0]))


def test_perceptual_hash_against_a_plain_cosine_transform():
    from scipy.fft import dctn

    y, x = np.mgrid[0:32, 0:32]
    picture = (127 + 60 * np.sin(x / 5) + 50 * np.cos(y / 3 + x / 9)).astype(np.uint8)
    low = dctn(picture.astype(float))[:8, :8]
    expected = np.packbits(low.ravel() > np.median(low)).tobytes()
    assert int(perceptual_hash(picture)).to_bytes(8, "big") == expected


def test_perceptual_hash_tells_duplicates_from_strangers():
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:300, 0:240]
    first = (100 + 80 * np.sin(x / 30) * np.cos(y / 40)).astype(np.uint8)
    other = (100 + 80 * np.sin(x / 11 + y / 60) * np.cos(y / 17)).astype(np.uint8)
    noisy = np.clip(first + rng.normal(0, 4, first.shape), 0, 255).astype(np.uint8)

    def apart(one: np.ndarray, two: np.ndarray) -> int:
        return int(perceptual_hash(one) ^ perceptual_hash(two)).bit_count()

    assert apart(first, first) == 0
    assert apart(first, noisy) <= 6
    assert apart(first, other) > 12
    assert perceptual_hash(first).dtype == np.uint64
