"""Settings that follow from the number of images, where a set is too small for those of the recipe."""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np

from medlike.datasets import Dataset, Split, make_split
from medlike.datasets.splits import SHARES
from medlike.models.presets import NetworkSettings
from medlike.training.material import in_domain, unit_count
from medlike.training.recipe import Recipe
from medlike.training.requirements import LEAST_POSITIVES, positive_pairs
from medlike.types import U64, Progress

# Batches that an epoch has at least, where a batch has to be smaller than the recipe's.
STEPS = 4
# Largest share of the images that calibration takes from training.
MOST_CALIBRATION = 0.2


def derived_settings(
    part: Dataset, settings: NetworkSettings, recipe: Recipe, explicit: Container[str] = ()
) -> dict[str, int]:
    """Return the settings that a training part is too small for, with values that fit; none for a large part.

    Args:
        part: The training images.
        settings: Of the network.
        recipe: How it is trained.
        explicit: Names of settings that stay as they are.

    Returns:
        `batch`: a power of two, small enough for STEPS batches an epoch and large enough for a pair of one label.
        `linear`: half as many directions as there are images.
    """
    derived: dict[str, int] = {}
    count = len(part)
    if count < 2:
        return derived
    if recipe.batch > count and "batch" not in explicit:
        labels = label_numbers(part)
        batch = max(2, 1 << (count // STEPS).bit_length() >> 1)
        while 2 * batch <= count and positive_pairs(part, labels, batch, recipe.sampling) < LEAST_POSITIVES:
            batch *= 2
        derived["batch"] = batch
    if settings.linear >= count and "linear" not in explicit:
        derived["linear"] = count // 2
    return derived


def label_numbers(part: Dataset) -> np.ndarray:
    """Return a number for the label of every image, int64 [N], -1 without one."""
    names = sorted({sample.label for sample in part} - {""})
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(sample.label, -1) for sample in part], np.int64)


def describe(derived: Mapping[str, int], settings: NetworkSettings, recipe: Recipe, count: int) -> str:
    """Say in a line what was derived, and how to choose another value."""
    defaults = {**vars(settings), **vars(recipe)}
    parts = [f"{name} {value} in place of {defaults[name]}" for name, value in derived.items()]
    return f"derived from {count} training images: {', '.join(parts)}; --set {next(iter(derived))}=N overrides it"


def calibrating_split(everything: Dataset, hashes: U64, least: int, say: Progress[str] = lambda line: None) -> Split:
    """Return a new split; of a small set, calibration takes images from training if it lacks units otherwise.

    Args:
        everything: All images.
        hashes: Their perceptual hashes.
        least: Units that calibration needs.
        say: Takes a line if the shares are not the usual ones.
    """
    usual = make_split(everything, hashes)
    if SHARES["calibration"] * len(everything) >= least or unit_count(usual, everything, "calibration") >= least:
        return usual
    # Whole units are dealt, so aim a little higher than what is needed.
    share = min(MOST_CALIBRATION, 1.2 * least / max(1, len(everything)))
    shares = {**SHARES, "calibration": share, "train": SHARES["train"] + SHARES["calibration"] - share}
    larger = make_split(everything, hashes, shares=shares)
    units = unit_count(larger, everything, "calibration")
    if units < least:
        return usual
    trained = len(in_domain(larger.part(everything, "train")))
    say(f"derived from {len(everything)} images: {units} units for calibration, {trained} images for training")
    return larger
