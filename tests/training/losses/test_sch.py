"""SCH against a slow reference written pair by pair, in both variants, and what bad batches give."""

import math

import numpy as np
import pytest
import torch

from medlike.errors import TrainingError
from medlike.training.losses.sch import BINS, SCHSettings, class_weights, sch
from medlike.training.losses.similarity import require_finite


def batch(images=9, bits=6, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(images, bits, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (images,), generator=generator)
    prints = torch.randint(0, 256, (images, 16, 16), generator=generator, dtype=torch.uint8)
    # Some images look alike, as real ones do.
    prints[1] = prints[0] // 2 + 3
    prints[4] = prints[3]
    return u, labels, prints


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def pearson(a, b):
    return cosine(a - a.mean(), b - b.mean())


def reference(u, labels, prints, variant, g, alpha=0.5, balance=0.05, covariance=0.05):
    u = u.numpy()
    f = prints.reshape(len(prints), -1).numpy().astype(float)
    n, bits = u.shape
    h = np.tanh(u)
    weights, terms = [], []
    for i in range(n):
        for j in range(n):
            if variant == "corrected" and i == j:
                continue
            same = labels[i] == labels[j]
            if variant == "released":
                alike, d = cosine(f[i], f[j]), (1 - pearson(u[i], u[j])) / 2
                d = min(max(d, 1e-7), 1 - 1e-7)
            else:
                alike = max(0.0, pearson(f[i], f[j]))
                d = min(max((1 - cosine(h[i], h[j])) / 2, 1e-4), 1 - 1e-4)
            terms.append(-alike * math.log(1 - d) if same else -math.exp(alike) * math.log(d))
            weights.append(float(g[labels[i]] * g[labels[j]]))
    weights = np.array(weights)
    if variant == "corrected":
        weights = np.minimum(weights / weights.mean(), 10)
    contrast = float(np.mean(weights * np.array(terms)))
    if variant == "released":
        return contrast, contrast + alpha * math.log(1.5)
    ones = np.ones(bits)
    q = np.mean([math.log(1 + (1 - cosine(abs(row), ones)) / 2) for row in h])
    b = np.mean(h.mean(axis=0) ** 2)
    c = np.cov(h.T, bias=True)
    c = (np.sum(c**2) - np.sum(np.diag(c) ** 2)) / (bits * (bits - 1))
    return contrast, contrast + alpha * q + balance * b + covariance * c


@pytest.mark.parametrize("variant", ["corrected", "released"])
def test_the_value_is_that_of_explicit_pairs(variant):
    u, labels, prints = batch()
    g = class_weights([90, 9, 1])
    loss = sch(u, labels, prints, SCHSettings(variant), g)
    contrast, total = reference(u, labels, prints, variant, g.double())
    assert float(loss.contrast) == pytest.approx(contrast, rel=1e-7)
    assert float(loss.total) == pytest.approx(total, rel=1e-7)


@pytest.mark.parametrize("variant", ["corrected", "released"])
def test_gradients_agree_with_differences(variant):
    u, labels, prints = batch(6, 5)
    weights = class_weights([3, 5, 7]).double()

    def total(x):
        return sch(x, labels, prints, SCHSettings(variant), weights).total

    assert torch.autograd.gradcheck(total, u.requires_grad_(True), atol=1e-6)


def test_the_released_quantisation_is_constant_and_the_corrected_is_not():
    u, labels, prints = batch()
    u.requires_grad_(True)
    released = sch(u, labels, prints, SCHSettings("released")).quantisation
    assert float(released) == pytest.approx(math.log(1.5))
    assert not released.requires_grad
    (gradient,) = torch.autograd.grad(sch(u, labels, prints).quantisation, u)
    assert gradient.abs().max() > 0


def test_pearson_is_blind_to_a_shift_of_the_code_and_the_corrected_distance_is_not():
    u, labels, prints = batch()

    def change(variant):
        settings = SCHSettings(variant)
        moved, still = sch(u + 3, labels, prints, settings), sch(u, labels, prints, settings)
        return abs(float(moved.contrast - still.contrast))

    assert change("released") < 1e-6
    assert change("corrected") > 0.1


def test_class_weights_are_those_of_the_paper_and_are_capped():
    assert class_weights([90, 9, 1]).tolist() == pytest.approx([100 / 270, 100 / 27, 100 / 3])
    assert class_weights([5, 0, 5]).tolist() == pytest.approx([1.0, 0.0, 1.0])
    u, labels, prints = batch(40, classes=2)
    labels[:] = 0
    labels[0] = 1
    extreme = sch(u, labels, prints, SCHSettings(), class_weights([10**7, 1]))
    plain = sch(u, labels, prints, SCHSettings())
    assert float(extreme.contrast) < 11 * float(plain.contrast)


def test_the_histogram_counts_every_pair_once_by_class():
    u, labels, prints = batch(7)
    histogram = sch(u, labels, prints).histogram
    same = sum(int(labels[i] == labels[j]) for i in range(7) for j in range(i))
    assert histogram.shape == (2, BINS)
    assert histogram[0].sum() == same
    assert histogram.sum() == 21
    # Images 3 and 4 are equal and 0 and 1 nearly so: H is 1, the last bin.
    assert histogram[:, -1].sum() == 2


def test_structure_controls_replace_h():
    u, labels, prints = batch(8)
    one = sch(u, labels, prints, SCHSettings(structure="one")).histogram
    assert one[:, -1].sum() == 28
    mean = sch(u, labels, prints, SCHSettings(structure="mean")).histogram
    assert (mean.sum(dim=0) > 0).sum() == 1
    torch.manual_seed(1)
    shuffled = sch(u, labels, prints, SCHSettings(structure="shuffled"))
    assert shuffled.contrast != sch(u, labels, prints).contrast
    assert torch.equal(shuffled.histogram.sum(dim=0), sch(u, labels, prints).histogram.sum(dim=0))


@pytest.mark.parametrize("size", [8, 16, 32])
def test_fingerprints_of_other_sizes_serve(size):
    u, labels, _ = batch()
    loss = sch(u, labels, torch.rand(len(u), size, size))
    assert torch.isfinite(loss.total)


@pytest.mark.parametrize("variant", ["corrected", "released"])
@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2, 3], [2, 2, 2, 2], [-1, -1, -1, -1], [-1, 0, 0, 5]],
    ids=["no positives", "one class", "unknown", "some"],
)
def test_poor_batches_are_finite_with_finite_gradients(variant, labels):
    u = torch.zeros(4, 8)
    u[1:] = torch.randn(3, 8) * 50
    u.requires_grad_(True)
    prints = torch.zeros(4, 16, 16)
    prints[1] = 255.0
    loss = sch(u, torch.tensor(labels), prints, SCHSettings(variant))
    require_finite(loss.parts())
    loss.total.backward()
    assert torch.isfinite(u.grad).all()


def test_one_image_has_no_pairs():
    loss = sch(torch.randn(1, 8), torch.tensor([0]), torch.rand(1, 256))
    assert float(loss.contrast) == 0


def test_values_that_are_not_finite_are_named():
    u, labels, prints = batch()
    u[2, 1] = float("nan")
    with pytest.raises(TrainingError, match="contrast"):
        require_finite(sch(u, labels, prints).parts())


def test_wrong_shapes_and_settings_are_refused():
    u, labels, prints = batch()
    with pytest.raises(TrainingError, match=r"\[9\]"):
        sch(u, labels[:4], prints)
    with pytest.raises(TrainingError, match="fingerprints"):
        sch(u, labels, prints[:4])
    with pytest.raises(TrainingError, match="corrected, released"):
        SCHSettings(variant="best")
    with pytest.raises(TrainingError, match="shuffled"):
        SCHSettings(structure="none")


def test_autocast_changes_nothing():
    u, labels, prints = batch()
    u = u.float()
    with torch.autocast("cpu", torch.bfloat16):
        half = sch(u, labels, prints)
    assert float(half.total) == float(sch(u, labels, prints).total)
