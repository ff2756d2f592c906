import numpy as np
import pytest

from medlike.bundle import Bundle, shipped
from medlike.evaluation.studies.attacks import attacked
from medlike.inference import Encoder


@pytest.fixture(scope="module")
def pictures():
    bundle = Bundle.load(shipped()[0])
    return bundle, np.stack(list(bundle.golden_inputs()[:3]))


def flipped(bundle, a, b):
    with Encoder(bundle) as encoder:
        codes = [encoder.encode(list(p)).code for p in (a, b)]
    return np.unpackbits(codes[0] ^ codes[1], axis=1).mean()


@pytest.mark.parametrize(("steps", "detector"), [(1, False), (3, True)])
def test_an_attack_stays_within_its_budget_and_beats_noise_of_the_same_size(pictures, steps, detector):
    bundle, clean = pictures
    changed = attacked(bundle, clean, 6, steps, detector)
    assert changed.dtype == np.uint8 and changed.shape == clean.shape
    assert np.abs(changed.astype(int) - clean).max() <= 6
    noise = np.random.default_rng(0).choice([-6, 6], clean.shape)
    noisy = np.clip(clean.astype(int) + noise, 0, 255).astype(np.uint8)
    assert flipped(bundle, clean, changed) > flipped(bundle, clean, noisy) + 0.05
