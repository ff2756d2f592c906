"""Regional search against the definition, written as loops."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medlike.codes import windows
from medlike.codes.templates import GRID, SCALES, Template, oriented, restored
from medlike.codes.windows import agreement, match, share_of
from medlike.errors import QueryError


def turned(cells, orientation):
    """A window (list of rows of anything) mirrored from 4 on, then turned anticlockwise."""
    if orientation >= 4:
        cells = [row[::-1] for row in cells]
    for _ in range(orientation % 4):
        cells = [[row[-1 - i] for row in cells] for i in range(len(cells[0]))]
    return cells


def scaled(cells, scale):
    """Sides rounded half up, each new cell the one its centre lies in; None where larger than the grid."""
    height, width = len(cells), len(cells[0])
    down, across = (max(1, int(side * round(scale * 10) / 10 + 0.5)) for side in (height, width))
    if max(down, across) > GRID:
        return None
    return [
        [cells[int((i + 0.5) * height / down)][int((j + 0.5) * width / across)] for j in range(across)]
        for i in range(down)
    ]


def scaling(windows, scales, sample):
    """(shift, factor) by scale: chance means by the definition, in whole numbers, and cube roots of cell numbers."""
    means, numbers = {}, {}
    for scale in scales:
        codes = []
        for window in windows:
            resampled = scaled(window, scale)
            codes += [] if resampled is None else [code for row in resampled for code, shown in row if shown]
        if codes:
            flips = sum(
                (int(a) ^ int(b)).bit_count()
                for code in codes
                for cell in sample
                for a, b in zip(code, cell, strict=True)
            )
            numbers[scale] = len(codes) // len(windows)
            means[scale] = float(Fraction(flips, len(codes) * len(sample) * 64 * len(codes[0])))
    own = next(iter(numbers), None)
    made = {own: (0.0, 1.0)}
    for scale in list(numbers)[1:]:
        factor = round((numbers[scale] / numbers[own]) ** (1 / 3), 6)
        made[scale] = (means[scale] - means[own] / factor, factor)
    return made


def naive(stored, valid, query, counted, orientations, scales, sample=(), seen=None):
    """Best (distance, scale, orientation, top, left) of one image by the definition, None without one.

    seen: the query's cells in each orientation, where it does not merely rearrange the first.
    """
    best = None
    queries = [query] * orientations if seen is None or orientations == 1 else [query, *seen]
    windows = [
        [[(cells[i, j], counted[i, j]) for j in range(query.shape[1])] for i in range(query.shape[0])]
        for cells in queries
    ]
    scalings = scaling(windows, scales, sample) if len(sample) else {}
    for scale in scales:
        shift, factor = scalings.get(scale, (0.0, 1.0))
        for orientation in range(orientations):
            resampled = scaled(windows[orientation], scale)
            if resampled is None:
                continue
            cells = turned(resampled, orientation)
            height, width = len(cells), len(cells[0])
            for top in range(GRID - height + 1):
                for left in range(GRID - width + 1):
                    flips = number = 0
                    fits = True
                    for i in range(height):
                        for j in range(width):
                            code, shown = cells[i][j]
                            if shown:
                                fits &= bool(valid[top + i, left + j])
                                number += 1
                                for a, b in zip(code, stored[top + i, left + j], strict=True):
                                    flips += (int(a) ^ int(b)).bit_count()
                    if fits and number:
                        share = flips / (number * 64 * query.shape[2])
                        found = ((share - shift) * factor, scale, orientation, top, left)
                        if best is None or found[0] < best[0]:
                            best = found
    return best


@st.composite
def cases(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    words = draw(st.sampled_from([1, 2]))
    number = draw(st.integers(0, 11))
    kinds = draw(st.sampled_from([2, 2**64 - 1]))
    # Few different codes make ties; a constant image is one great tie.
    stored = random.integers(0, kinds, (number, GRID, GRID, words), dtype=np.uint64, endpoint=True)
    height, width = draw(st.sampled_from([(1, 1), (1, 3), (2, 2), (3, 4), (5, 2), (14, 13)]))
    query = random.integers(0, kinds, (height, width, words), dtype=np.uint64, endpoint=True)
    if number and draw(st.booleans()):
        query = stored[0, :height, :width].copy()
    counted = np.ones((height, width), bool)
    if draw(st.booleans()):
        counted = random.random((height, width)) < 0.7
        counted[0, 0] = True
    valid = np.ones((number, GRID, GRID), bool)
    shape = draw(st.sampled_from(["whole", "letterbox", "ragged", "nothing"]))
    for image in valid:
        if shape == "letterbox":
            edge = random.integers(0, 6)
            image[:edge] = image[GRID - edge :] = False
        elif shape == "ragged":
            image[:] = random.random((GRID, GRID)) < 0.9
        elif shape == "nothing":
            image[:] = False
    return (
        stored,
        valid,
        query,
        counted,
        draw(st.sampled_from([1, 8])),
        draw(st.sampled_from([(1.0,), SCALES])),
        random.integers(0, kinds, (7, height, width, words), dtype=np.uint64, endpoint=True),
    )


def packed(valid):
    return np.packbits(valid.reshape(len(valid), GRID * GRID), axis=1).reshape(len(valid), 25)


@settings(max_examples=35, deadline=None)
@given(cases(), st.integers(0, 5), st.booleans())
def test_both_engines_equal_the_definition(case, number, encoded):
    stored, valid, query, counted, orientations, scales, seen = case
    seen = seen if encoded else None
    sample = np.random.default_rng(number).integers(0, 2**64, (number, query.shape[2]), dtype=np.uint64)
    template = Template.of(query, counted, orientations, scales, seen).standardised(sample)
    expected = [
        (row, *best)
        for row in range(len(stored))
        if (best := naive(stored[row], valid[row], query, counted, orientations, scales, sample, seen))
        is not None
    ]
    for engine in ("numpy", "compiled"):
        found = match(stored, packed(valid), template, engine=engine)
        arrangements = [template.arrangements[number] for number in found.arrangement]
        assert [
            (row, near, arrangement.scale, arrangement.orientation, top, left)
            for row, near, arrangement, top, left in zip(
                found.rows.tolist(), found.distance.tolist(), arrangements, found.top.tolist(), found.left.tolist(),
                strict=True,
            )
        ] == expected  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(cases())
def test_a_standardised_distance_is_as_unlikely_as_the_share_of_a_window_of_the_querys_size(case):
    stored, _, query, counted, orientations, scales, _ = case
    sample = stored.reshape(-1, query.shape[2])[::7]
    plain = Template.of(query, counted, orientations, scales)
    template = plain.standardised(sample)
    if not len(sample):
        assert template is plain
        return
    first = template.arrangements[0]
    mean = np.mean([np.bitwise_count(query[i, j] ^ sample).sum(axis=1) for i, j in np.argwhere(counted)])
    for arrangement in template.arrangements:
        if arrangement.scale == first.scale:
            assert (arrangement.shift, arrangement.factor) == (0, 1)
            continue
        # At its own mean a window is as likely as one of the query's size at its mean.
        codes = template.codes[arrangement.cells[arrangement.cells >= 0]]
        own = np.mean([np.bitwise_count(code ^ sample).sum(axis=1) for code in codes]) / (64 * query.shape[2])
        middle = mean / (64 * query.shape[2])
        assert (own - arrangement.shift) * arrangement.factor == pytest.approx(middle)
        assert arrangement.factor == pytest.approx(math.cbrt(arrangement.bits / first.bits), abs=1e-6)


def test_a_lesion_of_another_size_comes_before_smaller_matches_by_chance():
    random = np.random.default_rng(3)
    stored = random.integers(0, 2**64, (400, GRID, GRID, 1), dtype=np.uint64)
    query = random.integers(0, 2**64, (3, 3, 1), dtype=np.uint64)
    lesion = query[np.ix_([0, 1, 1, 2], [0, 1, 1, 2])]
    # A third of the bits of the larger lesion differ; by chance some window of 2 x 2 has fewer.
    noise = np.packbits(random.random((4, 4, 1, 64)) < 0.36, axis=-1).view("<u8").reshape(4, 4, 1)
    stored[7, 5:9, 3:7] = lesion ^ noise
    plain = Template.of(query)
    by_share, by_chance = (
        match(stored, None, template) for template in (plain, plain.standardised(stored[:64].reshape(-1, 1)))
    )
    assert by_share.rows[by_share.distance.argmin()] != 7
    at = int(by_chance.distance.argmin())
    chosen = plain.arrangements[by_chance.arrangement[at]]
    assert (by_chance.rows[at], by_chance.top[at], by_chance.left[at], chosen.scale) == (7, 5, 3, 1.4)
    share = share_of(plain.codes, stored[7], chosen, 5, 3)
    assert share == np.bitwise_count(noise).sum() / (64 * 16)
    assert share == pytest.approx(1 - np.nanmean(agreement(plain.codes, stored[7], chosen, 5, 3)))


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("rows", "distance", "arrangement", "top", "left")
    )


@pytest.mark.parametrize("words", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (7, 7), (10, 14)])
def test_many_images_rows_limits_and_masks_agree_with_numpy(words, shape):
    random = np.random.default_rng(words)
    stored = random.integers(0, 2**64, (2500, GRID, GRID, words), dtype=np.uint64)
    stored[100:900] = stored[5]
    valid = np.ones((2500, GRID, GRID), bool)
    for row in range(0, 2500, 3):
        valid[row, : row % 5], valid[row, :, : row % 7] = False, False
    masks = packed(valid)
    template = Template.of(stored[5, : shape[0], : shape[1]], orientations=8)
    if words == 1:
        template = template.standardised(stored[:9].reshape(-1, 1))
    rows = np.flatnonzero(random.random(2500) < 0.4)
    every = match(stored, masks, template, rows, engine="numpy")
    assert same(match(stored, masks, template, rows, engine="compiled"), every)
    limits = np.full(len(rows), np.median(every.distance))
    limits[::2] = every.distance.min()
    limited = match(stored, masks, template, rows, limits, "numpy")
    assert 0 < len(limited) < len(every)
    assert same(match(stored, masks, template, rows, limits, "compiled"), limited)
    assert same(match(stored, None, template, engine="compiled"), match(stored, None, template, engine="numpy"))


def test_more_different_masks_than_are_kept_ready():
    random = np.random.default_rng(0)
    stored = random.integers(0, 2**64, (600, GRID, GRID, 1), dtype=np.uint64)
    masks = packed(random.random((600, GRID, GRID)) < 0.97)
    template = Template.of(stored[0, :3, :3], orientations=1, scales=(1.0,))
    assert same(match(stored, masks, template, engine="compiled"), match(stored, masks, template, engine="numpy"))


@pytest.mark.parametrize("orientation", range(8))
def test_a_turned_region_is_found_where_it_is(orientation):
    random = np.random.default_rng(orientation)
    stored = random.integers(0, 2**64, (3, GRID, GRID, 1), dtype=np.uint64)
    query = random.integers(0, 2**64, (3, 5, 1), dtype=np.uint64)
    placed = np.rot90(np.fliplr(query) if orientation >= 4 else query, orientation % 4)
    stored[1, 4 : 4 + placed.shape[0], 6 : 6 + placed.shape[1]] = placed
    template = Template.of(query)
    found = match(stored, None, template)
    at = int(found.distance.argmin())
    assert (found.rows[at], found.distance[at], found.top[at], found.left[at]) == (1, 0, 4, 6)
    chosen = template.arrangements[found.arrangement[at]]
    assert (chosen.orientation, chosen.scale) == (orientation, 1.0)
    shown = agreement(template.codes, stored[1], chosen, 4, 6)
    assert np.nanmin(shown) == 1
    assert np.isfinite(shown).sum() == 15
    assert agreement(template.codes, stored[0], chosen, 4, 6)[4, 6] < 1


@pytest.mark.parametrize("orientation", range(8))
def test_each_orientation_has_the_cells_that_were_seen_in_it(orientation):
    random = np.random.default_rng(orientation)
    picture = random.integers(0, 2**64, (GRID, GRID, 1), dtype=np.uint64)
    assert np.array_equal(oriented(picture, orientation), turned(picture.tolist(), orientation))
    assert np.array_equal(restored(oriented(picture, orientation), orientation), picture)
    stored = random.integers(0, 2**64, (3, GRID, GRID, 1), dtype=np.uint64)
    seen = random.integers(0, 2**64, (8, 3, 5, 1), dtype=np.uint64)
    placed = oriented(seen[orientation], orientation)
    stored[1, 4 : 4 + placed.shape[0], 6 : 6 + placed.shape[1]] = placed
    template = Template.of(seen[0], turned=seen[1:])
    found = match(stored, None, template)
    at = int(found.distance.argmin())
    assert (found.rows[at], found.distance[at], found.top[at], found.left[at]) == (1, 0, 4, 6)
    chosen = template.arrangements[found.arrangement[at]]
    assert (chosen.orientation, chosen.scale) == (orientation, 1.0)
    assert np.nanmin(agreement(template.codes, stored[1], chosen, 4, 6)) == 1


def test_turned_cells_of_another_shape_are_refused():
    with pytest.raises(QueryError, match="7, 2, 2, 1"):
        Template.of(np.zeros((2, 2, 1), np.uint64), turned=np.zeros((8, 2, 2, 1), np.uint64))


def test_sides_are_rounded_half_up_and_windows_beyond_the_grid_left_out():
    def shapes(height, width):
        query = np.arange(height * width, dtype=np.uint64).reshape(height, width, 1)
        return [each.shape for each in Template.of(query, orientations=1).arrangements]

    assert shapes(5, 5) == [(5, 5), (4, 4), (7, 7)]
    assert shapes(3, 4) == [(3, 4), (2, 3), (4, 6)]
    assert shapes(1, 1) == [(1, 1)]
    assert shapes(11, 2) == [(11, 2), (8, 1)]
    assert shapes(10, 10) == [(10, 10), (7, 7), (14, 14)]


def test_equal_arrangements_are_tried_once():
    assert len(Template.of(np.zeros((1, 1, 1), np.uint64)).arrangements) == 1
    assert len(Template.of(np.zeros((2, 3, 1), np.uint64), orientations=8, scales=(1.0,)).arrangements) == 8


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"orientations": 4}, "8 or 1"), ({"scales": (2.0,)}, "0.7"), ({"scales": ()}, "scales"),
        ({"counted": np.zeros((2, 2), bool)}, "padding"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(chosen, message):
    with pytest.raises(QueryError, match=message):
        Template.of(np.zeros((2, 2, 1), np.uint64), **chosen)


def test_cells_of_another_width_are_refused():
    template = Template.of(np.zeros((2, 2, 1), np.uint64))
    with pytest.raises(QueryError, match="14, 14, 1"):
        match(np.zeros((3, GRID, GRID, 2), np.uint64), None, template)
    with pytest.raises(QueryError, match="masks"):
        match(np.zeros((3, GRID, GRID, 1), np.uint64), np.zeros((2, 25), np.uint8), template)
    with pytest.raises(QueryError, match="within the grid"):
        Template.of(np.zeros((15, 2, 1), np.uint64))
    assert windows.SMALL > 0
