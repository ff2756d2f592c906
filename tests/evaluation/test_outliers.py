"""Figures of outlier detection over a collection."""

from pathlib import Path

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample
from medlike.evaluation.outliers import outlier_figures
from medlike.metrics import auroc


def sample(n: int, ood: bool, modality: str = "CT") -> Sample:
    label, coarse = ("OOD_noise", "ood") if ood else ("a", "a")
    return Sample(
        path=f"{n}", file=Path(f"{n}"), label=label, coarse=coarse, source="s", modality=modality, region="chest"
    )


def test_one_kind_alone_has_no_figures():
    data = Dataset("d", (sample(0, False), sample(1, False)))
    assert outlier_figures(data, np.zeros(2), None, np.arange(2)) is None


def test_figures_are_those_of_the_scores_and_of_the_rule():
    kinds = [False, False, False, True, True]
    data = Dataset("d", tuple(sample(n, ood, "CT" if n else "MR") for n, ood in enumerate(kinds)))
    score, p = np.array([0.1, 0.2, 0.9, 0.8, 1.0]), np.array([0.5, 0.4, 0.01, 0.02, 0.2])
    figures = outlier_figures(data, score, p, np.array([0, 1, 1, 2, 3]))
    assert (figures["inside"], figures["outside"]) == (3, 2)
    assert figures["auroc"] == pytest.approx(auroc(score[:3], score[3:])) == pytest.approx(5 / 6)
    assert figures["kinds"]["OOD_noise"]["images"] == 2
    assert figures["rule"]["detected"] == 0.5
    assert figures["rule"]["false_alarms"] == pytest.approx(1 / 3)
    assert figures["rule"]["false_alarms_by_modality"] == {"CT": 0.5, "MR": 0.0}
    assert sum(figures["histogram"]["inside"]) == 3 and figures["roc"]["detected"][-1] == 1
    assert "rule" not in outlier_figures(data, score, None, np.arange(5))
