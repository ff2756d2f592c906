"""Plots keep room for what they draw, however many methods there are."""

import re
import warnings

import pytest

from medlike.evaluation import plots


@pytest.mark.parametrize("count", [2, 24])
def test_a_legend_of_many_names_takes_nothing_from_the_plot(count):
    figures = {"precision_recall_curve": [1.0, 0.5, 0.1]}
    methods = {f"random projection of the features of bundle number {n}": figures for n in range(count)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where the axes have no room left
        drawn = plots.precision_recall(methods)
    height = float(re.search(r'height="([\d.]+)pt"', drawn)[1])
    assert (height > 500) == (count == 24) and drawn.count("random projection") >= count
