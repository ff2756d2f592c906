"""Preservation of a teacher's similarities, against loops."""

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.similarity_preservation import relational_error


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


def test_gradients_reach_the_student_only():
    u, teacher = data()
    u.requires_grad_(True)
    teacher.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: relational_error(x, teacher), u, atol=1e-6)
    relational_error(u, teacher).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_small_and_flat_batches_are_finite(rows):
    u = torch.zeros(rows, 8, requires_grad=True)
    value = relational_error(u, torch.zeros(rows, 3))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(u.grad).all()


def test_rows_are_checked():
    u, teacher = data()
    with pytest.raises(TrainingError, match="same rows"):
        relational_error(u, teacher[:3])
