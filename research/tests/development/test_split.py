import os

import numpy as np
import pytest

from medlike.datasets import PARTS, find_units, hash_samples, headline
from medlike_research.development.collections import development
from medlike_research.development.split import development_split

pytestmark = [
    pytest.mark.collections,
    pytest.mark.skipif("MEDLIKE_DEV" not in os.environ, reason="no development collections (MEDLIKE_DEV)"),
]


def test_no_patient_and_no_near_duplicate_is_on_two_sides():
    data, split = development(), development_split()
    units = find_units(data, hash_samples(data))
    parts = np.array([PARTS.index(split.part_of[s.path]) for s in data])
    low, high = np.full(units.max() + 1, 9), np.full(units.max() + 1, -1)
    np.minimum.at(low, units, parts)
    np.maximum.at(high, units, parts)
    assert (low == high).all()
    np.testing.assert_array_equal(units, split.units(data))


def test_the_parts_have_their_shares_and_ood_is_halved():
    data, split = development(), development_split()
    inside = data.where(lambda s: not s.is_ood)
    for part, share in zip(PARTS, (0.5, 0.1, 0.1, 0.2, 0.1), strict=True):
        # Near-duplicates chain a thousand images of Medical MNIST into one unit, which goes to one part.
        assert abs(len(split.part(inside, part)) / len(inside) - share) < 0.05
    headlines = headline(data)
    for part, share in zip(PARTS, (0.5, 0.1, 0.1, 0.2, 0.1), strict=True):
        assert abs(len(split.part(headlines, part)) / len(headlines) - share) < 0.01
    outside = data.where(lambda s: s.is_ood)
    assert len(split.part(outside, "query")) + len(split.part(outside, "calibration")) == 590
    assert abs(len(split.part(outside, "query")) - 295) < 20
