"""A small set trains with settings derived from it; one that is too small gets one message about all it lacks."""

import math

import numpy as np
import pytest
import torch

from medlike.datasets import Dataset, Sample, Split, make_split
from medlike.errors import TrainingError
from medlike.models.networks import build
from medlike.models.presets import preset
from medlike.training.derived import calibrating_split, derived_settings
from medlike.training.duration import Costs, about, duration, timed_costs
from medlike.training.material import unit_count
from medlike.training.plan import TrainingPlan
from medlike.training.recipe import recipe
from medlike.training.requirements import require_directions, require_positives
from medlike.training.train import prepare_run, train_network


def labelled(count, labels):
    samples = (Sample(path=str(n), file=None, label=f"label {n % labels}") for n in range(count))
    return Dataset("drawn", tuple(samples))


def unlike(count):
    """Hashes so far apart that no two images are near-duplicates."""
    return np.random.default_rng(0).integers(0, 2**64, count, dtype=np.uint64)


@pytest.mark.parametrize(
    ("count", "labels", "derived"),
    [
        (5000, 8, {}),
        (256, 8, {}),
        (255, 8, {"batch": 32}),
        (150, 8, {"batch": 32}),
        (128, 8, {"batch": 32, "linear": 64}),
        (60, 30, {"batch": 8, "linear": 30}),  # 28 pairs of 30 labels: fewer than one, so the batch is doubled
        (12, 3, {"batch": 4, "linear": 6}),
        (1, 1, {}),
    ],
)
def test_settings_follow_from_the_number_of_images_where_the_recipe_does_not_fit(count, labels, derived):
    part, settings, ours = labelled(count, labels), preset("compact"), recipe("ours")
    found = derived_settings(part, settings, ours)
    if labels == 30:
        derived = derived | {"batch": 16}
    assert found == derived
    if count > 1:
        settings, ours = (
            preset("compact", linear=found.get("linear", 128)),
            recipe("ours", batch=found.get("batch", 256)),
        )
        require_positives(part, np.arange(count) % labels, ours)
        require_directions(part, settings)


def test_what_is_set_explicitly_stays():
    part = labelled(100, 4)
    assert derived_settings(part, preset("compact"), recipe("ours"), {"batch"}) == {"linear": 50}
    assert derived_settings(part, preset("compact"), recipe("ours"), {"batch", "linear"}) == {}


@pytest.mark.parametrize(("count", "larger"), [(100, False), (200, True), (300, True), (400, False)])
def test_calibration_of_a_small_set_takes_images_from_training(count, larger):
    dataset, said = labelled(count, 5), []
    usual = make_split(dataset, unlike(count))
    made = calibrating_split(dataset, unlike(count), 34, said.append)
    assert (made.digest != usual.digest) == larger == bool(said)
    if larger:
        assert unit_count(usual, dataset, "calibration") < 34 <= unit_count(made, dataset, "calibration")
        assert f"derived from {count} images" in said[0]


def test_one_message_says_everything_a_set_lacks(phantom_data, tmp_path):
    first = phantom_data[0].samples
    few = Dataset("few", tuple(first[place] for place in (0, 20, 40, 60, 80, 100)))
    parts = ("train", "train", "train", "validation", "gallery", "gallery")
    split = Split("few", {s.path: part for s, part in zip(few, parts, strict=True)}, {s.path: 0 for s in few}, {})
    with pytest.raises(TrainingError) as caught:
        prepare_run([few], TrainingPlan("compact", 32, device="cpu"), tmp_path, tmp_path, split, print)
    message = str(caught.value)
    for what in (
        "each of the 3 labels of the training part has a single image",
        "none of the 0 labels of the query part occurs in the gallery",
        "pairs of the same label on average",
        "The parts of 6 images of 6 labels are: train 3, validation 1, calibration 0, gallery 2, query 0",
        "Give at least 2 labels, and of each at least 10 images of different patients; fewer have CT_abdomen",
    ):
        assert what in message
    assert "\n" not in message


def test_the_duration_is_the_sum_of_its_parts():
    costs = Costs(read=1, augment=2, stem=8, step=16, depth_step=32, serve=64)
    nothing = recipe("ours", epochs=1, views=1, depth_steps=0, batch=50)
    before = duration(costs, nothing, 100, 50, 10)
    assert duration(costs, recipe("ours", epochs=1, views=1, depth_steps=3, batch=50), 100, 50, 10) == before + 96
    assert duration(costs, nothing, 110, 50, 10) == before + 10 * (1 + 8)
    more_views = recipe("ours", epochs=1, views=2, depth_steps=0, batch=50)
    assert duration(costs, more_views, 100, 50, 10) == before + 50 * (2 + 8)
    longer = recipe("ours", epochs=2, views=1, depth_steps=0, batch=50)
    assert duration(costs, longer, 100, 50, 10) == before + 16 + 60 * 64
    assert duration(costs, nothing, 100, 50, 10, gain=2) < before < duration(costs, nothing, 100, 50, 10, copies=1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "under a minute"), (60, "about a minute"), (100, "about 2 minutes"), (7300, "about 2 hours")],
)
def test_a_duration_is_said_as_people_do(seconds, said):
    assert about(seconds) == said


@pytest.mark.slow
def test_timing_changes_neither_weights_nor_random_numbers(phantom_data, small):
    settings, ours = TrainingPlan("compact", 32, changes=small).settings()
    network = build(settings, 32, {"label": 8}).eval()
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    costs = timed_costs(network, ours, phantom_data[0], torch.device("cpu"))
    assert all(math.isfinite(cost) and cost > 0 for cost in vars(costs).values())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.slow
def test_three_hundred_images_become_a_bundle_at_the_first_try(write_phantoms, small, tmp_path):
    """No split, and of the settings only narrower layers and a shorter schedule; it gives outlier verdicts too."""
    from medlike.datasets import read_collection

    dataset = read_collection(write_phantoms(tmp_path / "phantoms", each=38))
    dataset = Dataset(dataset.name, dataset.samples[:300])
    said = []
    narrow = {name: value for name, value in small.items() if name not in ("batch", "linear")}
    quick = narrow | {"epochs": 1, "feature_epochs": 0, "views": 1, "depth_steps": 20}
    plan = TrainingPlan("compact", 32, changes=quick, device="cpu")
    made = train_network([dataset], tmp_path / "out", plan, say=said.append)
    derived = next(line for line in said if "training images: batch 32 in place of 256" in line)
    estimate = next(line for line in said if line.startswith("this run takes "))
    preparing = next(line for line in said if line.startswith("preparing "))
    assert said.index(derived) < said.index(estimate) < said.index(preparing)
    training = made.spec["training"]
    assert training["recipe"]["batch"] == 32 == training["changes"]["batch"]
    assert made.spec["outlier"] and made.spec["quality"]["map_expected"] > 0.2
