import numpy as np
import pytest

from medlike.codes import fit as fits
from medlike.codes.fit import LENGTH, Fit, Labelled, learned, weighed
from medlike.codes.reranking import original_first
from medlike.errors import QueryError

WIDTHS = (20, 12, 8)


def contents(count=600, seed=0, kinds=12):
    """Content vectors of some kinds: int8 [count, 40], and the kind of each."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(kinds, sum(WIDTHS)))
    kind = random.integers(kinds, size=count)
    rows = centres[kind] + 0.4 * random.normal(size=(count, sum(WIDTHS)))
    return np.rint(rows / np.abs(rows).max(axis=1, keepdims=True) * 127).astype(np.int8), kind


def fitted(bits=32, **changes):
    content, _ = contents()
    settings = {"widths": WIDTHS, "bits": bits, "weights": (1, 2, 1), "directions": 24} | changes
    return learned(content, np.ones(len(content)), **settings)


def naive(fit: Fit, row):
    """The code and the fitted vector of one content vector in Python's own whole numbers."""
    pieces, start = [], 0
    for width, weight in zip(fit.widths, fit.weights, strict=True):
        block = [int(value) for value in row[start : start + width]]
        length = np.sqrt(np.float64(max(sum(value * value for value in block), 1)))
        pieces += [int(np.rint(value * (weight * LENGTH / length))) for value in block]
        start += width
    whole = []
    for column in range(fit.directions.shape[1]):
        product = sum(piece * int(fit.directions[at, column]) for at, piece in enumerate(pieces))
        product -= int(fit.offset[column])
        whole.append(int(np.clip(np.rint(product / 2**fit.shift), -32767, 32767)))
    bits = [
        sum(whole[at] * int(fit.rotation[at, bit]) for at in range(len(fit.rotation))) > 0 for bit in range(fit.bits)
    ]
    peak = max(1, *(abs(value) for value in whole))
    return np.packbits(bits), [int(np.rint(value * (127.0 / peak))) for value in whole]


@pytest.mark.parametrize("bits", [8, 24, 64])
def test_codes_are_those_of_whole_numbers(bits):
    fit = fitted(bits)
    content, _ = contents(50, seed=3)
    codes, vectors = fit.encode(content)
    assert codes.shape == (50, bits // 8)
    for row in range(50):
        code, vector = naive(fit, content[row])
        assert np.array_equal(codes[row], code)
        assert vectors[row].tolist() == vector


def test_a_row_has_its_code_wherever_it_stands():
    fit = fitted()
    content, _ = contents(5000, seed=4)
    codes, vectors = fit.encode(content)
    for row in (0, 1, 4095, 4096, 4999):
        alone = fit.encode(content[row : row + 1])
        assert np.array_equal(codes[row], alone[0][0]) and np.array_equal(vectors[row], alone[1][0])


def test_the_same_vectors_give_the_same_fit_and_digest():
    assert fitted().digest == fitted().digest
    assert len({fitted().digest, fitted(power=1.0).digest, fitted(weights=(1, 1, 1)).digest, fitted(40).digest}) == 4


def test_nearest_codes_are_of_the_same_kind():
    content, kind = contents(800, seed=0)
    fit = learned(content[:600], np.ones(600), WIDTHS, 32, (1, 1, 1), directions=32)
    codes, _ = fit.encode(content)
    bits = np.unpackbits(codes, axis=1).astype(int)
    distances = np.abs(bits[600:, None] - bits[None, :600]).sum(axis=2)
    nearest = kind[:600][distances.argmin(axis=1)]
    assert np.mean(nearest == kind[600:]) > 0.9


def test_blocks_have_their_own_lengths():
    content, _ = contents(10)
    rows = weighed(content, WIDTHS, (0.6, 0.8, 0.0)).astype(float) / LENGTH
    lengths = [np.linalg.norm(rows[:, part], axis=1) for part in (slice(0, 20), slice(20, 32), slice(32, 40))]
    assert np.allclose(lengths[0], 0.6, atol=1e-3) and np.allclose(lengths[1], 0.8, atol=1e-3)
    assert not lengths[2].any()


def test_directions_are_evened_out():
    content, _ = contents(600)
    spreads = []
    for power in (0.0, 1.0):
        fit = fitted(power=power)
        products = weighed(content, WIDTHS, fit.weights).astype(float) @ fit.directions - fit.offset
        spread = products.std(axis=0)
        spreads.append(spread[0] / spread[-1])
    assert spreads[0] > 2 and spreads[1] == pytest.approx(1, abs=0.05)


def nuisance(rank=3, size=0.5, seed=5):
    """A factor [40, rank] of the scatter of altered copies, in random directions."""
    return size * np.linalg.qr(np.random.default_rng(seed).normal(size=(sum(WIDTHS), rank)))[0]


def test_the_invariant_map_evens_out_the_scatter_of_altered_copies():
    factor = nuisance()
    fit = fitted(weights=(1, 1, 1), directions=20, power=0.0, nuisance=factor, damping=0.5)
    plain = fitted(weights=(1, 1, 1), directions=20, power=0.0)
    assert plain.invariant is None and np.array_equal(plain.directions, fit.directions)
    assert np.array_equal(plain.rotation, fit.rotation) and plain.digest != fit.digest
    scatter = fit.directions.astype(float).T @ (factor @ factor.T / 3) @ fit.directions
    scatter += 0.5 * np.trace(scatter) / 20 * np.eye(20)
    even = fit.invariant.astype(float) @ scatter @ fit.invariant
    np.testing.assert_allclose(even / even[0, 0], np.eye(20), atol=2e-3)


def test_an_altered_copy_is_nearest_its_original_where_nuisance_is_known():
    content, _ = contents(600)
    factor = nuisance(size=1.0)
    random = np.random.default_rng(1)
    moved = content / 127 + random.normal(size=(600, 3)) * 1.5 @ factor.T
    copies = np.rint(moved / np.abs(moved).max(axis=1, keepdims=True) * 127).astype(np.int8)
    fit = fitted(weights=(1, 1, 1), directions=32, power=0.0, nuisance=factor, damping=0.02)
    stored, asked = (fit.encode(rows)[1] for rows in (content, copies))
    hits = {True: 0, False: 0}
    for at, query in enumerate(asked):
        order = np.argsort(-(stored.astype(float) @ query) / np.linalg.norm(stored.astype(float), axis=1))
        for known in hits:
            hits[known] += original_first(query, stored, order, fit.invariant if known else None)[0] == at
    assert hits[True] > 540 > 360 > hits[False]


def test_nuisance_of_another_width_is_refused():
    with pytest.raises(QueryError, match="nuisance is of 39 entries, the content vectors have 40"):
        fitted(nuisance=nuisance()[1:])


def test_an_image_that_counts_more_draws_the_mean_to_itself():
    content, _ = contents(200)
    even = learned(content, np.ones(200), WIDTHS, 16, (1, 1, 1))
    heavy = np.ones(200)
    heavy[0] = 1e6
    drawn = learned(content, heavy, WIDTHS, 16, (1, 1, 1))
    middle = weighed(content[:1], WIDTHS, drawn.weights).astype(float) @ drawn.directions - drawn.offset
    assert np.abs(middle * 2.0**-drawn.shift).max() < 2
    assert even.digest != drawn.digest


def test_a_row_of_zeros_has_a_code():
    codes, vectors = fitted().encode(np.zeros((1, sum(WIDTHS)), np.int8))
    assert codes.shape == (1, 4) and vectors.shape == (1, 24)


def test_other_widths_and_equal_images_are_refused():
    with pytest.raises(QueryError, match="40 entries, the fit is for 41"):
        learned(contents(20)[0], np.ones(20), (41,), 8, (1,))
    with pytest.raises(QueryError, match="one content vector"):
        learned(np.full((20, 40), 3, np.int8), np.ones(20), WIDTHS, 8, (1, 1, 1))


def scattered(count=400, seed=0):
    """Content vectors of 4 kinds whose largest scatter is within the kinds: int8 [count, 40], kinds and sources."""
    random = np.random.default_rng(seed)
    basis = np.linalg.qr(random.normal(size=(sum(WIDTHS), sum(WIDTHS))))[0]
    kind, source = random.integers(4, size=count), random.integers(3, size=count)
    rows = 0.3 * basis[kind] + random.normal(size=(count, 4)) @ basis[10:14] + 0.05 * random.normal(size=(count, 40))
    rows += 0.3 * basis[30 + source]
    return np.clip(np.rint(40 * rows), -127, 127).astype(np.int8), kind, source


def same_kind_first(fit, content, kind):
    vectors = fit.encode(content)[1].astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = vectors @ vectors.T
    np.fill_diagonal(near, -2)
    return float((kind[near.argmax(axis=1)] == kind).mean())


def test_labels_turn_a_fit_to_what_tells_them_apart():
    content, kind, source = scattered()
    images, settings = np.ones(len(content)), {"widths": WIDTHS, "bits": 16, "weights": (1, 1, 1), "directions": 12}
    plain = learned(content, images, **settings)
    labelled = learned(content, images, **settings, labelled=Labelled(kind, source))
    fresh, _, _ = scattered(seed=9)
    assert type(labelled) is Fit and labelled.directions.dtype == plain.directions.dtype == np.int16
    assert same_kind_first(labelled, content, kind) > same_kind_first(plain, content, kind) + 0.05
    for row in range(5):
        code, vector = naive(labelled, fresh[row])
        assert np.array_equal(labelled.encode(fresh[row : row + 1])[0][0], code)
        assert labelled.encode(fresh[row : row + 1])[1][0].tolist() == vector


@pytest.mark.parametrize("block", [64, 2048])
def test_scatter_within_labels_counts_labels_and_their_sources_alike(block, monkeypatch):
    monkeypatch.setattr(fits, "BLOCK", block)
    content, kind, source = scattered(200)
    images = np.random.default_rng(1).uniform(0.2, 1, 200)
    labels = np.where(kind == 3, -1, kind)  # one label is not used
    labels = np.where(labels == 1, 4, labels)  # and one number stands for none
    within = fits._within(content, images, Labelled(labels, source), WIDTHS, (0.5, 0.5, 0.5**0.5))
    rows = weighed(content, WIDTHS, (0.5, 0.5, 0.5**0.5)) / LENGTH
    expected = np.zeros((40, 40))
    for label in (0, 2, 4):
        weights = np.zeros(200)
        for each in range(3):
            cell = (labels == label) & (source == each)
            weights[cell] = images[cell] / images[cell].sum() / 3
        centred = rows - weights @ rows
        expected += (centred * weights[:, None]).T @ centred / 3
    assert within == pytest.approx(expected)
