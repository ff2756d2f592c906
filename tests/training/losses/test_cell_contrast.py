"""NT-Xent over cells against a loop over every cell and every negative."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.cell_contrast import cell_contrast


def cells():
    generator = torch.Generator().manual_seed(7)
    first = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    second = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    image = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    place = torch.tensor([[0, 0], [0, 1], [0, 3], [5, 0], [2, 2], [2, 9], [0, 0], [13, 13]])
    prints = torch.randn(8, 9, generator=generator, dtype=torch.float64)
    prints[6] = prints[0] * 2 + 1
    return first, second, image, place, prints


def is_negative(i, j, image, place, prints):
    if i == j:
        return False
    a, b = prints[i] - prints[i].mean(), prints[j] - prints[j].mean()
    if float(a @ b / (a.norm() * b.norm())) > 0.9:
        return False
    return image[i] != image[j] or int((place[i] - place[j]).abs().max()) >= 3


def slow(first, second, image, place, prints, tau=0.1):
    def similarity(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    total = []
    for a, b in ((first, second), (second, first)):
        for i in range(len(a)):
            positive = math.exp(similarity(a[i], b[i]) / tau)
            below = positive
            for j in range(len(a)):
                if is_negative(i, j, image, place, prints):
                    below += math.exp(similarity(a[i], b[j]) / tau) + math.exp(similarity(a[i], a[j]) / tau)
            total.append(-math.log(positive / below))
    return sum(total) / len(total)


def test_the_value_is_that_of_explicit_cells():
    assert float(cell_contrast(*cells())) == pytest.approx(slow(*cells()))


def test_near_and_look_alike_cells_are_no_negatives():
    first, second, image, place, prints = cells()
    everything = cell_contrast(first, second, torch.arange(8), place, torch.randn(8, 9))
    assert everything > cell_contrast(first, second, image, place, prints)


def test_gradients_agree_with_differences():
    first, second, *rest = cells()
    assert torch.autograd.gradcheck(
        lambda a, b: cell_contrast(a, b, *rest),
        (first.requires_grad_(True), second.requires_grad_(True)),
        atol=1e-6,
    )


def test_a_batch_without_negatives_is_zero_with_a_gradient_of_zero():
    first = torch.randn(3, 4, requires_grad=True)
    loss = cell_contrast(
        first, torch.randn(3, 4), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 2), torch.rand(3, 9)
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(first.grad, torch.zeros(3, 4))
    one = first.detach()[:1]
    alone = cell_contrast(one, one, torch.zeros(1), torch.zeros(1, 2), torch.rand(1, 9))
    assert float(alone) == 0


def test_shapes_are_checked():
    first, second, image, place, prints = cells()
    with pytest.raises(TrainingError, match="two arrays"):
        cell_contrast(first, second[:4], image, place, prints)
    with pytest.raises(TrainingError, match="fingerprints"):
        cell_contrast(first, second, image[:4], place, prints)
    with pytest.raises(TrainingError, match="above 0"):
        cell_contrast(first, second, image, place, prints, temperature=0)
