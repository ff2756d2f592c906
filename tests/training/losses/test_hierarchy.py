"""Cross-entropy over the levels of the label tree."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.hierarchy import hierarchy_entropy


def test_levels_weigh_alike_and_unknown_labels_are_left_out():
    logits = {"modality": torch.randn(4, 2), "label": torch.randn(4, 5)}
    labels = {"modality": torch.tensor([0, 1, 1, 0]), "label": torch.tensor([-1, 4, -1, 2])}

    def entropy(level, rows):
        terms = []
        for row in rows:
            scores = [math.exp(v) for v in logits[level][row].tolist()]
            terms.append(-math.log(scores[labels[level][row]] / sum(scores)))
        return sum(terms) / len(terms)

    expected = (entropy("modality", range(4)) + entropy("label", [1, 3])) / 2
    assert float(hierarchy_entropy(logits, labels)) == pytest.approx(expected, rel=1e-5)


def test_a_level_of_which_nothing_is_known_adds_zero():
    scores = torch.randn(3, 2, requires_grad=True)
    loss = hierarchy_entropy({"label": scores}, {"label": torch.full((3,), -1)})
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(scores.grad, torch.zeros(3, 2))


def test_a_level_without_labels_is_named():
    with pytest.raises(TrainingError, match="region"):
        hierarchy_entropy({"region": torch.zeros(1, 2)}, {"label": torch.zeros(1, dtype=torch.int64)})
