"""The gate's listwise loss against its definition."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.listwise import blended_distance, listwise


def test_the_value_is_the_cross_entropy_to_the_relevant_share():
    distance = torch.tensor([[0.1, 0.4, 0.3], [0.2, 0.2, 0.5]], dtype=torch.float64)
    relevance = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]])
    total = 0.0
    for row, wanted in zip(distance.tolist(), relevance.tolist(), strict=True):
        scores = [math.exp(-d / 0.1) for d in row]
        shares = [w / sum(wanted) for w in wanted]
        total -= sum(s * math.log(score / sum(scores)) for s, score in zip(shares, scores, strict=True))
    assert float(listwise(distance, relevance, 0.1)) == pytest.approx(total / 2)


def test_the_gate_learns_which_distance_is_right():
    whole, local = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.6]])
    scores = torch.zeros(1, 2, requires_grad=True)
    loss = listwise(blended_distance(scores.softmax(1), whole, local), torch.tensor([[True, False]]))
    loss.backward()
    assert scores.grad[0, 1] < 0 < scores.grad[0, 0]


def test_gradients_agree_with_differences():
    distance = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    relevance = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    assert torch.autograd.gradcheck(lambda d: listwise(d, relevance), distance)


def test_queries_without_a_relevant_candidate_add_nothing():
    distance = torch.rand(2, 3, requires_grad=True)
    loss = listwise(distance, torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(distance.grad, torch.zeros(2, 3))
    with pytest.raises(TrainingError, match="Q,M"):
        listwise(distance, torch.zeros(2, 2))
    with pytest.raises(TrainingError, match="above 0"):
        listwise(distance, torch.zeros(2, 3), 0)
