"""The regional study: turned galleries, floors and ceilings, and ways of searching that must agree."""

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample
from medlike_research.studies.regions_boxes import (
    Boxed,
    ceiling,
    combined,
    guesses,
    reached,
    turned_back,
    turned_boxes,
    turned_span,
    turned_square,
)
from medlike_research.studies.regions_search import (
    Cells,
    Correlation,
    by_bits,
    by_cosine,
    by_weighted_bits,
    hit_share,
    shortlisted,
)

SPAN = np.array([4, 3, 8, 9])
BOX = np.array([3.0, 4.0, 9.0, 8.0]) * 16


@pytest.fixture(scope="module")
def boxed():
    """Sixteen noisy images with the same bright, unsymmetrical patch in one place, turned at random."""
    random = np.random.default_rng(0)
    number = 16
    patch = random.integers(120, 256, (64, 96))
    pixels = random.integers(0, 60, (number, 224, 224))
    pixels[:, 64:128, 48:144] = patch
    pixels = pixels.astype(np.uint8)
    turn = random.integers(0, 8, number)
    inner = np.tile([0.0, 0, 224, 224], (number, 1))
    valid = np.ones((number, 14, 14), bool)
    samples = Dataset("d", tuple(Sample(path=str(n), file=None, source="s", modality="CT", region="head")
                                 for n in range(number)))  # fmt: skip
    return Boxed(
        samples, np.arange(number), np.arange(number) % 5, pixels,
        np.stack([turned_square(p, t) for p, t in zip(pixels, turn, strict=True)]), turn,
        [BOX[None]] * number, [turned_boxes(BOX[None], t) for t in turn], inner, inner, valid, valid,
        np.zeros(number, int), np.tile(SPAN, (number, 1)), np.arange(number) < 13,
    )  # fmt: skip


@pytest.fixture(scope="module")
def codes(boxed):
    """Codes that say what a cell shows: the same for the same cell of the patch, else random."""
    random = np.random.default_rng(1)
    own = random.choice([-1.0, 1.0], (14, 14, 64))
    asked, stored = [], []
    for turn in boxed.turn:
        real = random.choice([-1.0, 1.0], (14, 14, 64))
        real[4:8, 3:9] = own[4:8, 3:9]
        asked.append(real)
        stored.append(turned_square(real, turn))
    weight = np.ones((len(asked), 14, 14), np.float32)
    return Cells(np.stack(asked).astype(np.float16), weight), Cells(np.stack(stored).astype(np.float16), weight)


@pytest.mark.parametrize("turn", range(8))
def test_a_box_goes_where_its_pixels_go(turn):
    square = np.zeros((224, 224), bool)
    square[64:128, 48:144] = True
    x0, y0, x1, y1 = turned_boxes(BOX[None], turn)[0].astype(int)
    expected = np.zeros_like(square)
    expected[y0:y1, x0:x1] = True
    np.testing.assert_array_equal(turned_square(square, turn), expected)
    row0, column0, row1, column1 = turned_span(SPAN, turn)
    assert (row0 * 16, column0 * 16, row1 * 16, column1 * 16) == (y0, x0, y1, x1)


def test_bits_cosine_and_weights_find_the_patch_wherever_it_lies(boxed, codes):
    asked, stored = codes
    rows = boxed.gallery(0)
    bits = by_bits(boxed, asked.packed()[:1], stored.packed(), 0, rows)
    cosine = by_cosine(boxed, asked, stored, 0, rows)
    weighted = by_weighted_bits(boxed, asked.packed()[0], stored.packed(), 0, rows, asked.weight[0])
    assert (bits.distance == 0).all() and hit_share(boxed, bits) == 1
    for other in (cosine, weighted):
        np.testing.assert_array_equal(other.rows, bits.rows)
        np.testing.assert_allclose(other.box, bits.box)
    assert all(reached(box[None], boxed.turned_boxes[row])[0] for box, row in zip(bits.box, bits.rows, strict=True))


def test_a_turned_query_finds_the_same(boxed, codes):
    asked, stored = codes
    turned = np.stack([turned_square(each, 1) for each in asked.packed()])
    found = by_bits(boxed, turned[:1], stored.packed(), 0, boxed.gallery(0), turn=1)
    assert (found.distance == 0).all() and hit_share(boxed, found) == 1


@pytest.mark.parametrize("first", range(8))
def test_two_turns_are_one_and_turning_back_undoes_it(first):
    square = np.arange(16).reshape(4, 4)
    for second in range(8):
        both = turned_square(turned_square(square, first), second)
        np.testing.assert_array_equal(both, turned_square(square, combined(first, second)))
    np.testing.assert_array_equal(turned_back(turned_square(square, first)[None], first)[0], square)


def test_codes_that_change_with_the_orientation_are_found_where_each_was_seen(boxed, codes):
    _, stored = codes
    random = np.random.default_rng(5)
    seen = random.integers(0, 2**64, (8, 14, 14, 1), dtype=np.uint64)
    gallery, rows = stored.packed().copy(), boxed.gallery(0)
    for row in rows:
        gallery[row] = turned_square(seen[boxed.turn[row]], boxed.turn[row])
    found = by_bits(boxed, seen, gallery, 0, rows, standardised=False)
    assert (found.distance == 0).all() and hit_share(boxed, found) == 1
    rearranged = by_bits(boxed, seen[:1], gallery, 0, rows, standardised=False)
    upright = boxed.turn[rearranged.rows] == 0
    assert (rearranged.distance[~upright] > 0.2).all() and (rearranged.distance[upright] == 0).all()


def test_one_orientation_misses_what_is_turned(boxed, codes):
    asked, stored = codes
    found = by_bits(boxed, asked.packed()[:1], stored.packed(), 0, boxed.gallery(0), orientations=1, scales=(1.0,))
    upright = boxed.turn[found.rows] == 0
    assert (found.distance[upright] == 0).all() and (found.distance[~upright] > 0.2).all()


def test_correlation_finds_a_patch_of_pixels(boxed):
    found = Correlation(boxed).search(0, boxed.gallery(0))
    assert hit_share(boxed, found) == 1


def test_queries_are_searched_in_other_folds(boxed):
    rows = boxed.gallery(3)
    assert len(rows) and not (boxed.fold[rows] == boxed.fold[3]).any()
    assert boxed.held[rows].all() and not boxed.held[boxed.gallery(3, everything=True)].all()


def test_guesses_lie_below_the_ceiling(boxed):
    found = guesses(boxed, 0, boxed.gallery(0), np.random.default_rng(0))
    assert ceiling(boxed, 0, boxed.gallery(0)) == 1
    assert 0 <= found["random box"] < 0.5
    upright = float((boxed.turn[boxed.gallery(0)] == 0).mean())
    assert found["same position"] >= upright


def test_a_shortlist_goes_by_the_whole_code_then_by_row():
    gallery = np.array([[0b1111], [0b0001], [0b0001], [0b0000], [0b0011]], np.uint8)
    place = shortlisted(np.array([0], np.uint8), gallery, np.array([0, 1, 2, 4]), np.array([4, 0, 2, 1]))
    assert place.tolist() == [2, 3, 1, 0]
