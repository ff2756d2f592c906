"""DSH, DPSH, HashNet, DCH and CSQ against slow references written pair by pair."""

import math

import pytest
import torch

from medlike.errors import TrainingError
from medlike_research.losses.csq import csq, hadamard, hash_centres
from medlike_research.losses.dch import dch
from medlike_research.losses.dpsh import dpsh
from medlike_research.losses.dsh import dsh
from medlike_research.losses.hashnet import hashnet

LABELS = torch.tensor([0, 1, 0, 2, 2, 0, -1])


def codes():
    return torch.randn(7, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def pairs():
    """(i, j, same) of every ordered pair of known labels."""
    known = range(6)
    return [(i, j, bool(LABELS[i] == LABELS[j])) for i in known for j in known if i != j]


def weights():
    """By class agreement: each kind takes half of the total weight."""
    alike = sum(same for _, _, same in pairs())
    return {True: len(pairs()) / (2 * alike), False: len(pairs()) / (2 * (len(pairs()) - alike))}


def slow_dsh(u):
    total = []
    for i, j, same in pairs():
        squared = float(((u[i] - u[j]) ** 2).sum())
        total.append(squared / 2 if same else max(0.0, 16 - squared) / 2)
    return sum(total) / len(total) + 0.01 * float((u.abs() - 1).abs().sum() / len(u))


def slow_dpsh(u):
    total = []
    for i, j, same in pairs():
        p = 1 / (1 + math.exp(-float(u[i] @ u[j]) / 2))
        total.append(-math.log(p if same else 1 - p))
    return sum(total) / len(total) + 0.1 * float(((u - u.sign()) ** 2).mean())


def slow_hashnet(u):
    g = torch.tanh(u)
    total = []
    for i, j, same in pairs():
        p = 1 / (1 + math.exp(-10 / 8 * float(g[i] @ g[j])))
        total.append(-weights()[same] * math.log(p if same else 1 - p))
    return sum(total) / len(total)


def slow_dch(u):
    def distance(a, b):
        return 4 * (1 - float(a @ b / (a.norm() * b.norm())))

    total = []
    for i, j, same in pairs():
        d = distance(u[i], u[j])
        p = 20 / (20 + d)
        total.append(-weights()[same] * math.log(p if same else 1 - p))
    ones = torch.ones(8, dtype=u.dtype)
    off = [math.log(1 + distance(row.abs(), ones) / 20) for row in u]
    return sum(total) / len(total) + 0.1 * sum(off) / len(off)


def slow_csq(u):
    centres = hash_centres(3, 8)
    total = []
    for row, label in zip(u[:6], LABELS[:6], strict=True):
        for value, centre in zip(row, centres[label], strict=True):
            p = (math.tanh(value) + 1) / 2
            total.append(-math.log(p if centre > 0 else 1 - p))
            total[-1] += 1e-4 * math.log(math.cosh(abs(math.tanh(value)) - 1))
    return sum(total) / len(total)


def fast_csq(u, labels):
    return csq(u, labels, hash_centres(3, 8))


CASES = [(dsh, slow_dsh), (dpsh, slow_dpsh), (hashnet, slow_hashnet), (dch, slow_dch), (fast_csq, slow_csq)]
NAMES = ["dsh", "dpsh", "hashnet", "dch", "csq"]


@pytest.mark.parametrize(("fast", "slow"), CASES, ids=NAMES)
def test_the_value_is_that_of_explicit_pairs(fast, slow):
    assert float(fast(codes(), LABELS)) == pytest.approx(slow(codes()), rel=1e-7)


@pytest.mark.parametrize(("fast", "slow"), CASES, ids=NAMES)
def test_gradients_agree_with_differences(fast, slow):
    if fast is dpsh:
        # sign u is held fixed in the gradient, as published; away from zero that is the derivative.
        assert codes().abs().min() > 1e-3
    assert torch.autograd.gradcheck(lambda u: fast(u, LABELS), codes().requires_grad_(True), atol=1e-6)


@pytest.mark.parametrize(("fast", "slow"), CASES, ids=NAMES)
@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 1, 1], [-1, -1, -1]], ids=["no positives", "one class", "unknown"])
def test_poor_batches_are_finite(fast, slow, labels):
    u = torch.tensor([[0.0] * 8, [60.0] * 8, [-60.0] * 8], requires_grad=True)
    loss = fast(u, torch.tensor(labels))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(u.grad).all()


@pytest.mark.parametrize(("fast", "slow"), CASES, ids=NAMES)
def test_values_that_are_not_finite_come_out(fast, slow):
    u = codes()
    u[1, 2] = float("nan")
    assert torch.isnan(fast(u, LABELS))


@pytest.mark.parametrize(("fast", "slow"), CASES, ids=NAMES)
def test_labels_that_do_not_fit_are_refused(fast, slow):
    with pytest.raises(TrainingError, match="labels"):
        fast(codes(), LABELS[:3])


def test_hashnet_sharpens():
    assert hashnet(codes(), LABELS, sharpness=10.0) != hashnet(codes(), LABELS)


def test_hadamard_rows_are_orthogonal():
    matrix = hadamard(16)
    assert torch.equal(matrix @ matrix.T, 16 * torch.eye(16))
    with pytest.raises(TrainingError, match="12"):
        hadamard(12)


@pytest.mark.parametrize(
    ("classes", "bits", "least"),
    [(20, 64, 32), (128, 64, 32), (60, 24, 6), pytest.param(200, 64, 18, marks=pytest.mark.slow)],
)
def test_centres_are_far_apart(classes, bits, least):
    centres = hash_centres(classes, bits)
    assert centres.shape == (classes, bits)
    assert set(centres.unique().tolist()) == {-1.0, 1.0}
    distance = (bits - centres @ centres.T) / 2 + bits * torch.eye(classes)
    assert distance.min() >= least
    assert torch.equal(centres, hash_centres(classes, bits))


def test_centres_of_another_length_are_refused():
    with pytest.raises(TrainingError, match="8 bits"):
        csq(codes(), LABELS, hash_centres(3, 16))
