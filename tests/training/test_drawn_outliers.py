"""Drawn outliers: the same every time, and each kind different pictures."""

import numpy as np
import pytest

from medlike.training.drawn_outliers import KINDS, draw_outliers


@pytest.mark.slow
def test_drawn_outliers_are_the_same_every_time_and_differ_from_each_other():
    once, again = draw_outliers(range(2)), draw_outliers([1, 0])
    assert set(once) == set(KINDS)
    for kind, pictures in once.items():
        assert all(picture.dtype == np.uint8 and picture.ndim == 2 for picture in pictures)
        assert min(min(picture.shape) for picture in pictures) >= 200
        for n, picture in enumerate(pictures):
            np.testing.assert_array_equal(picture, again[kind][1 - n])
        assert len({picture.tobytes() for picture in pictures}) == 2
    assert draw_outliers([0], seed=1)["noise"][0].tobytes() != once["noise"][0].tobytes()
