import numpy as np
import pytest

from medlike_research.studies.alignment import aligned_similarity, structural_similarity
from medlike_research.studies.perturbations import (
    CHANGES,
    blur,
    crop,
    inversion,
    jpeg,
    noise,
    resized,
    rotation,
    window,
)


def picture():
    y, x = np.mgrid[0:90, 0:120]
    return (100 + 60 * np.sin(x / 9.0) + 50 * np.cos(y / 5.0)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", CHANGES)
def test_stronger_levels_change_more_and_stay_pictures(name):
    grey = picture()
    apart = []
    for change in CHANGES[name].values():
        changed = change(grey.copy())
        assert changed.dtype == np.uint8 and changed.ndim == 2
        np.testing.assert_array_equal(changed, change(grey.copy()))
        if changed.shape == grey.shape:
            apart.append(np.abs(changed.astype(float) - grey).mean())
    if name in ("JPEG quality", "resize to", "noise", "blur"):
        assert apart[-1] == max(apart) > 1.5 * apart[0]


def test_what_each_change_does():
    grey = picture()
    assert (inversion(inversion(grey)) == grey).all()
    assert crop(0.5)(grey[:88]).shape == (44, 60)
    assert window(100, 101)(grey).max() == 255 and set(np.unique(window(100, 101)(grey))) <= {0, 255}
    assert (rotation(180)(grey) == grey[::-1, ::-1]).all()
    assert blur(2)(grey).std() < grey.std() and resized(0.25)(grey).shape == grey.shape
    assert 8 < (noise(10)(grey).astype(float) - grey).std() < 11
    assert jpeg(90)(grey).shape == grey.shape


def test_ssim_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    a = picture()[:, :90].astype(np.float32)
    b = a + np.random.default_rng(0).normal(0, 12, a.shape).astype(np.float32)
    reference = structural_similarity_index_measure(
        torch.tensor(a)[None, None], torch.tensor(b)[None, None], gaussian_kernel=False, kernel_size=7, data_range=255
    )
    assert structural_similarity(a, b) == pytest.approx(float(reference), abs=0.02)
    assert structural_similarity(a, a) == pytest.approx(1.0)


def test_alignment_finds_the_orientation_and_the_shift():
    rng = np.random.default_rng(0)
    small = np.kron(rng.integers(0, 255, (16, 16)), np.ones((7, 7))).astype(np.uint8)
    moved = np.zeros_like(small)
    moved[9:, :-14] = np.rot90(small)[:-9, 14:]
    assert aligned_similarity(small, moved) > 0.7
    assert structural_similarity(small.astype(float), moved.astype(float)) < 0.2
    assert aligned_similarity(small, small) == pytest.approx(1.0, abs=1e-6)
