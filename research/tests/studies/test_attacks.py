from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from medlike.bundle import Bundle
from medlike.datasets import prepare_samples, read_manifest
from medlike.inference import Encoder
from medlike_research.studies.attacks import attacked

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture(scope="module")
def pictures():
    # Real images: phantoms are flat, and noise alone turns a third of their bits.
    found = read_manifest(SAMPLES).where(lambda s: not s.is_ood)
    return Bundle.load("medlike-hmar-64"), np.stack([p.pixels for p in islice(prepare_samples(found), 0, 40, 8)])


def flipped(bundle, a, b, what):
    with Encoder(bundle) as encoder:
        codes = [np.ascontiguousarray(getattr(encoder.encode(list(p)), what)).view(np.uint8) for p in (a, b)]
    return np.unpackbits(codes[0] ^ codes[1]).mean()


@pytest.mark.parametrize(("steps", "goal"), [(1, "code"), (3, "code-and-detector"), (3, "cells")])
@pytest.mark.slow
def test_an_attack_stays_within_its_budget_and_beats_noise_of_the_same_size(pictures, steps, goal):
    bundle, clean = pictures
    changed = attacked(bundle, clean, 2, steps, goal)
    assert changed.dtype == np.uint8 and changed.shape == clean.shape
    assert np.abs(changed.astype(int) - clean).max() <= 2
    noise = np.random.default_rng(0).choice([-2, 2], clean.shape)
    noisy = np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8)
    what = "cells" if goal == "cells" else "code"
    found, usual = flipped(bundle, clean, changed, what), flipped(bundle, clean, noisy, what)
    assert found > usual + 0.1, f"{found:.3f} of the bits turned, {usual:.3f} by noise"
