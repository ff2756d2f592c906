"""The nearest images of a query, and what their labels are, expected over tie order."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample
from medlike.evaluation.neighbours import confusion, distance_row, nearest_rows
from medlike.evaluation.protocols import Arena
from medlike.evaluation.representation import Representation


def codes(*values: int) -> Representation:
    return Representation(codes=np.array(values, np.uint8)[:, None])


def arena(queries: int, gallery: int, units: list[int], gallery_units: list[int]) -> Arena:
    samples = [
        Sample(path=f"{n}", file=Path(f"{n}"), label="a", coarse="a", source="s", modality="CT", region="chest")
        for n in range(queries + gallery)
    ]
    parts = Dataset("q", tuple(samples[:queries])), Dataset("g", tuple(samples[queries:]))
    return Arena("t", *parts, np.array(units), np.array(gallery_units))


def test_distances_are_bits_or_minus_the_cosine():
    assert distance_row(codes(0), codes(0, 1, 7), 0).tolist() == [0, 1, 3]
    query, gallery = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    away = distance_row(Representation(features=query), Representation(features=gallery), 0)
    assert away == pytest.approx([-1, 0, 1])


def test_own_units_are_left_out_and_content_orders_ties():
    place = arena(1, 4, [7], [1, 2, 7, 3])
    query, gallery = codes(0), codes(1, 1, 0, 3)
    assert nearest_rows(place, query, gallery, 0, 2).tolist() == [0, 1]
    content = Representation(features=np.array([[1.0, 0.0]])), Representation(
        features=np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    )
    assert nearest_rows(place, query, gallery, 0, 9, content).tolist() == [1, 0, 3]


def test_confusion_is_the_mean_over_every_order_of_ties():
    query, gallery = codes(0, 255), codes(0, 1, 2, 4, 255)
    labels = np.array(["a", "b"]), np.array(["b", "a", "b", "b", "a"])
    names, shares = confusion(query, gallery, labels, (np.array([0, 1]), np.array([9, 9, 9, 9, 1])), count=2)
    # The first query: row 0, then any of the three rows at distance 1.
    nearest = [labels[1][[0, order[0]]] for order in permutations((1, 2, 3))]
    expected = np.mean([[(pair == name).mean() for name in "ab"] for pair in nearest], axis=0)
    assert names == ["a", "b"]
    assert shares[0] == pytest.approx(expected)
    # The second leaves out its own unit; all others lie at 8 or 7 bits, those at 7 first.
    assert shares[1] == pytest.approx([1 / 3, 2 / 3])
    assert shares.sum(axis=1) == pytest.approx(1)
