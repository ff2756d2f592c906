"""Small labelled collections of phantoms, and a bundle that was trained on one."""

import pytest


@pytest.fixture(scope="session")
def phantom_collection(write_phantoms, tmp_path_factory):
    """Some 100 drawn images of 8 labels."""
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "phantoms")


# Small parts, so that a run takes seconds; the stem is the real one.
SMALL = {
    "linear": 24, "depth_hidden": 32, "depth_outputs": 16, "fusion_outputs": 16, "fusion_width": 8, "pixel_width": 24,
    "pixel_hidden": 32, "branch_width": 16, "hash_hidden": 16, "window_width": 8, "epochs": 4, "feature_epochs": 2,
    "batch": 24, "views": 2, "depth_steps": 20,
}  # fmt: skip


@pytest.fixture(scope="session")
def small():
    """Settings of a small network and a short run."""
    return dict(SMALL)


@pytest.fixture(scope="session")
def phantom_data(write_phantoms, tmp_path_factory):
    """The collection, its split with enough calibration units for outlier verdicts, and a cache for all tests."""
    from medlike.datasets import hash_samples, make_split, read_collection

    folder = write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", each=20, strange=16)
    dataset = read_collection(folder)
    shares = {"train": 0.4, "validation": 0.1, "calibration": 0.3, "gallery": 0.1, "query": 0.1}
    split = make_split(dataset, hash_samples(dataset), shares=shares)
    return dataset, split, folder.parent / "cache"


@pytest.fixture(scope="session")
def trained(phantom_data, tmp_path_factory):
    """A small compact bundle trained for four epochs; its run is in the folder beside it, with .run at its end."""
    from medlike.training.plan import TrainingPlan
    from medlike.training.train import train_network

    dataset, split, cache = phantom_data
    out = tmp_path_factory.mktemp("trained") / "small"
    plan = TrainingPlan("compact", 32, changes=SMALL, device="cpu")
    return train_network([dataset], out, plan, split=split, cache=cache)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """What needs a trained network is slow: `make check` leaves it out."""
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
