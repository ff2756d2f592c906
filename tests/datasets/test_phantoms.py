"""Phantoms: the same seed gives the same pixels, and the lesion lies in its box."""

import numpy as np
import pytest

from medlike.datasets import phantoms
from medlike.errors import DatasetError


@pytest.mark.parametrize("kind", phantoms.KINDS)
def test_same_arguments_same_pixels(kind):
    first, second = phantoms.draw(kind, 3), phantoms.draw(kind, 3)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.boxes == second.boxes
    assert not np.array_equal(first.pixels, phantoms.draw(kind, 4).pixels)
    assert first.pixels.dtype == (np.int16 if first.modality == "CT" else np.uint8)


@pytest.mark.parametrize("kind", phantoms.KINDS)
@pytest.mark.parametrize("size", [96, 192])
def test_lesion_lies_in_its_box(kind, size):
    for seed in range(5):
        with_lesion = phantoms.draw(kind, seed, size=size)
        without = phantoms.draw(kind, seed, lesion=False, size=size)
        assert without.boxes == []
        [[x0, y0, x1, y1]] = with_lesion.boxes
        assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
        change = np.abs(with_lesion.pixels.astype(float) - without.pixels.astype(float))
        inside = np.zeros(change.shape, bool)
        inside[y0:y1, x0:x1] = True
        assert change[inside].mean() > 3 * change[~inside].mean()


def test_slices_of_one_seed_are_one_patient():
    low, high = (phantoms.draw("mr_head", 1, level=v).pixels.astype(float) for v in (-0.1, 0.1))
    other = phantoms.draw("mr_head", 2, level=0.1).pixels.astype(float)
    assert np.abs(low - high).mean() < np.abs(low - other).mean()


def test_refusals_name_the_value():
    with pytest.raises(DatasetError, match=r"'pet'.*mr_head"):
        phantoms.draw("pet", 0)
    with pytest.raises(DatasetError, match="16 pixels"):
        phantoms.draw("mr_head", 0, size=16)
