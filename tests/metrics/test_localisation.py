import numpy as np
import pytest

from medlike.errors import QueryError
from medlike.metrics import hit_rate, iou, normalised_score
from medlike.metrics.localisation import is_hit


def test_iou_equals_counting_pixels():
    rng = np.random.default_rng(0)
    low = rng.integers(0, 20, (8, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 15, (8, 2))], axis=1)
    found = iou(boxes, boxes)
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            grid = np.zeros((2, 40, 40), bool)
            grid[0, a[1] : a[3], a[0] : a[2]] = True
            grid[1, b[1] : b[3], b[0] : b[2]] = True
            assert found[i, j] == pytest.approx((grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum())


def test_hits_need_the_iou_with_one_of_the_labelled_boxes():
    box = np.array([0, 0, 10, 10])
    assert is_hit(box, np.array([[50, 50, 60, 60], [0, 0, 10, 5]]))
    assert not is_hit(box, np.array([[0, 0, 10, 4.9]]))
    assert not is_hit(box, np.zeros((0, 4)))
    assert hit_rate([box, box], [np.array([[0, 0, 10, 10]]), np.array([[90, 90, 99, 99]])]) == 0.5


def test_the_normalised_score_runs_from_floor_to_ceiling():
    assert normalised_score(0.39, 0.39, 0.97) == 0
    assert normalised_score(0.97, 0.39, 0.97) == 1
    assert normalised_score(0.1, 0.39, 0.97) < 0
    assert np.isnan(normalised_score(0.5, 0.5, 0.5))


def test_boxes_without_area_are_refused():
    with pytest.raises(QueryError, match="no area"):
        iou(np.array([[0, 0, 0, 5]]), np.array([[0, 0, 5, 5]]))
    with pytest.raises(QueryError, match="x0 y0 x1 y1"):
        iou(np.zeros((2, 3)), np.zeros((2, 4)))
