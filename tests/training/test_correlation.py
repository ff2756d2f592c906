"""Canonical correlation finds what two sides share; a frame's signs keep directions."""

import numpy as np
import pytest

from medlike.errors import TrainingError
from medlike.training.correlation import canonical_correlation, sign_frame


def shared(count=400, seed=0):
    """Two sides that share three directions of falling strength, and noise of their own."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(count, 3)) * [1.0, 0.7, 0.4]
    a = common @ random.normal(size=(3, 12)) + random.normal(size=(count, 12)) * 0.5 + 4
    b = common @ random.normal(size=(3, 9)) + random.normal(size=(count, 9)) * 0.5 - 2
    return a, b


def test_without_penalty_it_is_that_of_scikit_learn():
    from sklearn.cross_decomposition import CCA

    a, b = shared()
    found = canonical_correlation(a, b, 3, penalty=0.0, power=0.0)
    x, y = CCA(3, max_iter=5000, tol=1e-10).fit_transform(a, b)
    known = [abs(np.corrcoef(x[:, i], y[:, i])[0, 1]) for i in range(3)]
    np.testing.assert_allclose(found.strengths, known, atol=1e-3)
    ours = (a - found.first_mean) @ found.first, (b - found.second_mean) @ found.second
    for i in range(3):
        assert abs(np.corrcoef(ours[0][:, i], x[:, i])[0, 1]) > 0.999
        # Both sides point the same way.
        assert np.corrcoef(ours[0][:, i], ours[1][:, i])[0, 1] == pytest.approx(found.strengths[i], abs=1e-6)


def test_directions_are_scaled_by_their_strength():
    a, b = shared()
    plain = canonical_correlation(a, b, 5, penalty=2.0, power=0.0)
    scaled = canonical_correlation(a, b, 5, penalty=2.0, power=2.0)
    np.testing.assert_allclose(scaled.first, plain.first * plain.strengths**2)
    assert (np.diff(plain.strengths) <= 0).all()


def test_a_penalty_weakens_what_is_not_shared():
    a, b = shared(40)
    loose, tight = (canonical_correlation(a, b, 9, penalty=p).strengths for p in (0.0, 100.0))
    assert (tight < loose).all() and tight[-1] / tight[0] < loose[-1] / loose[0]


def test_too_few_pairs_are_refused():
    with pytest.raises(TrainingError, match="give two pairs or more"):
        canonical_correlation(np.ones((1, 3)), np.ones((1, 3)), 2)
    with pytest.raises(TrainingError, match="3 and 4 rows"):
        canonical_correlation(np.ones((3, 3)), np.ones((4, 3)), 2)


@pytest.mark.parametrize("bits", [4, 8, 24])
def test_a_frame_keeps_angles_in_signs(bits):
    random = np.random.default_rng(1)
    rows = random.normal(size=(300, 8))
    frame = sign_frame(rows, bits)
    assert frame.shape == (8, bits)
    gram = frame.T @ frame if bits < 8 else frame @ frame.T
    np.testing.assert_allclose(gram, np.eye(min(bits, 8)), atol=1e-9)
    signs = np.where(rows @ frame > 0, 1.0, -1.0)
    drawn = np.where(rows @ random.normal(size=(8, bits)) > 0, 1.0, -1.0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(300, 1)]

    def kept(codes):
        return np.corrcoef(cosines, (codes @ codes.T)[np.triu_indices(300, 1)])[0, 1]

    assert kept(signs) > kept(drawn)
