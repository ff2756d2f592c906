"""Where a stem's weights come from: a file, the shipped untrained bundle, or nowhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from medlike.bundle import Bundle, shipped
from medlike.errors import TrainingError
from medlike.models.acir import ImageNetwork
from medlike.models.pretrained import fit

SCRATCH = "none"
PREFIX = "stem.body."


@dataclass(frozen=True)
class StemWeights:
    """origin: a file's name, a bundle's name or "random"; sha256: of the file or bundle; terms: for people."""

    origin: str
    sha256: str
    terms: str


def load_stem(network: ImageNetwork, given: str | Path | None) -> StemWeights:
    """Load the stem of a network.

    given: a file of weights; "none" for random ones; None takes the ImageNet weights that a shipped bundle
    of the same stem carries. Raises TrainingError where there are none, BundleError where a file does not fit.
    """
    stem = network.stem
    if given is not None and str(given) == SCRATCH:
        return StemWeights("random", "", "Weights of the stem: trained from scratch.")
    if given is not None:
        stem.load(given)
        digest = hashlib.sha256(Path(given).read_bytes()).hexdigest()
        return StemWeights(Path(given).name, digest, f"Weights of the stem started from {Path(given).name}.")
    bundle = _shipped_with(stem.name)
    if bundle is None:
        raise TrainingError(
            f"no shipped bundle carries weights of {stem.name}; give a file of ImageNet weights with --stem, "
            f"or --stem {SCRATCH} to start from random ones"
        )
    state = {
        name.removeprefix(PREFIX): torch.from_numpy(value.astype(np.float32))
        for name, value in bundle.weights().items()
        if name.startswith(PREFIX)
    }
    fit(stem.body, state, name=stem.name, path=bundle.path)
    return StemWeights(
        bundle.name,
        bundle.digest,
        f"Weights of the stem started from {stem.name.removesuffix('_blocks')} trained on ImageNet, Apache-2.0.",
    )


def _shipped_with(stem: str) -> Bundle | None:
    """Return the untrained shipped bundle of this stem, which holds the ImageNet weights as they are."""
    for name in shipped():
        bundle = Bundle.load(name)
        if bundle.preset == "itq" and stem.startswith(str(bundle.spec["network"]["stem"])):
            return bundle
    return None
