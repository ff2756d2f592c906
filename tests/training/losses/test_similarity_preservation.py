"""Preservation of a teacher's similarities, against loops."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.similarity_preservation import neighbour_divergence, relational_error


def data():
    generator = torch.Generator().manual_seed(2)
    u = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return u, torch.randn(6, 9, generator=generator, dtype=torch.float64)


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def test_relational_error_is_that_of_explicit_pairs():
    u, teacher = data()
    h = torch.tanh(u)
    errors = [
        (cosine(h[i], h[j]) - cosine(teacher[i], teacher[j])) ** 2
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert float(relational_error(u, teacher)) == pytest.approx(sum(errors) / 30)
    centred = teacher - teacher.mean(dim=1, keepdim=True)
    assert float(relational_error(teacher, teacher, squash=False)) == pytest.approx(0, abs=1e-12)
    assert float(relational_error(centred, teacher, squash=False, centre=True)) == pytest.approx(0, abs=1e-12)
    assert float(relational_error(centred, teacher, squash=False)) > 1e-4


def test_neighbour_divergence_is_that_of_explicit_distributions():
    u, teacher = data()

    def distribution(x, i, temperature):
        scores = {j: math.exp(cosine(x[i], x[j]) / temperature) for j in range(6) if j != i}
        return {j: score / sum(scores.values()) for j, score in scores.items()}

    total = 0.0
    for i in range(6):
        p, q = distribution(teacher, i, 0.2), distribution(torch.tanh(u), i, 0.1)
        total += sum(p[j] * math.log(p[j] / q[j]) for j in p)
    found = neighbour_divergence(u, teacher, temperature=0.1, teacher_temperature=0.2)
    assert float(found) == pytest.approx(total / 6)
    assert float(neighbour_divergence(teacher, teacher, squash=False)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("loss", [relational_error, neighbour_divergence])
def test_gradients_reach_the_student_only(loss):
    u, teacher = data()
    u.requires_grad_(True)
    teacher.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), u, atol=1e-6)
    loss(u, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("loss", [relational_error, neighbour_divergence])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_small_and_flat_batches_are_finite(loss, rows):
    u = torch.zeros(rows, 8, requires_grad=True)
    value = loss(u, torch.zeros(rows, 3))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(u.grad).all()


def test_rows_and_temperatures_are_checked():
    u, teacher = data()
    with pytest.raises(TrainingError, match="same rows"):
        relational_error(u, teacher[:3])
    with pytest.raises(TrainingError, match="above 0"):
        neighbour_divergence(u, teacher, temperature=0)
