"""The hybrid gating loss, against its formula written out token by token."""

import math

import pytest
import torch

from medlike.models.mcmfh_parts import chosen_weights
from medlike.training.losses.gating import gating


def slow(logits, chosen, router):
    rows = logits.reshape(-1, logits.shape[-1]).tolist()
    tokens, experts = len(rows), len(rows[0])
    taken, importance, z = [0] * experts, [0.0] * experts, 0.0
    for row in rows:
        total = sum(math.exp(value) for value in row)
        z += math.log(total) ** 2
        for expert in sorted(range(experts), key=lambda e: -row[e])[:chosen]:
            taken[expert] += 1
        for expert in range(experts):
            importance[expert] += math.exp(row[expert]) / total
    balance = experts * sum(
        (n / (tokens * chosen)) * (p / tokens) for n, p in zip(taken, importance, strict=True)
    )
    mean = sum(importance) / experts
    spread = sum((p - mean) ** 2 for p in importance) / experts / mean**2
    return balance + spread + router * z / tokens


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_gating_is_that_of_explicit_tokens(chosen):
    logits = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert float(gating(logits, chosen, 0.1)) == pytest.approx(slow(logits, chosen, 0.1))


def test_even_use_of_experts_costs_least():
    even = torch.eye(4, dtype=torch.float64).repeat(3, 1) * 5
    one = torch.zeros(12, 4, dtype=torch.float64)
    one[:, 0] = 5
    assert float(gating(even, 1, 0.0)) == pytest.approx(1)
    assert float(gating(one, 1, 0.0)) > 3


def test_large_logits_cost_even_a_single_expert():
    assert float(gating(torch.full((3, 1), 4.0), 2, 0.1)) == pytest.approx(1 + 0 + 0.1 * 16)


def test_gradients_push_towards_the_unused_expert():
    logits = torch.tensor([[3.0, 0.0, 0.0, 0.0]] * 5, requires_grad=True)
    gating(logits, 1, 0.0).backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1:] < 0).all()


def test_weights_of_the_chosen_sum_to_one():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
    total = math.exp(3) + math.exp(2)
    expected = [0.0, math.exp(3) / total, math.exp(2) / total, 0.0]
    assert chosen_weights(logits, 2)[0].tolist() == pytest.approx(expected)
