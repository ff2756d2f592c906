"""Small labelled collections of phantoms, and strange pictures among them."""

import csv

import numpy as np
import pytest
from PIL import Image


def write_phantoms(folder, each=12, strange=0, size=96, first=0):
    """A manifest of drawn images under `folder`: 8 labels (kind, with or without lesion), `each` of a label.

    Every image is one patient's, turned and moved about, so that no two are near-duplicates. strange: pictures of
    two kinds that are no radiological image.
    """
    from medlike.datasets.phantoms import KINDS, draw
    from medlike.imaging import from_array, render

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in KINDS:
        for lesion in (False, True):
            for number in range(each):
                seed = first + 1000 * lesion + number
                drawn = draw(kind, seed, lesion, size)
                random = np.random.default_rng((seed, len(rows)))
                grey = render(from_array(drawn.pixels))
                grey = np.rot90(grey, int(random.integers(4)))
                shift = random.integers(-size // 5, size // 5 + 1, 2)
                grey = np.roll(grey, tuple(int(v) for v in shift), (0, 1))
                name = f"{kind}-{int(lesion)}-{number}.png"
                Image.fromarray(np.ascontiguousarray(grey)).save(folder / name)
                label = f"{drawn.modality}_{drawn.region}_{'lesion' if lesion else 'normal'}"
                rows.append({
                    "path": name, "class": f"{drawn.modality}_{drawn.region}", "source": f"phantom-{drawn.modality}",
                    "group": f"{kind}-{int(lesion)}-{number}", "modality": drawn.modality, "region": drawn.region,
                    "label": label, "licence": "CC0",
                })  # fmt: skip
    for number in range(strange):
        kind = ("checks", "stripes")[number % 2]
        random = np.random.default_rng((first + number, 99))
        cell = int(random.integers(3, 9))
        y, x = np.mgrid[0:size, 0:size] // cell
        pattern = (x + y) % 2 if kind == "checks" else x % 2
        grey = (pattern * random.integers(120, 256) + random.integers(0, 40, (size, size))).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{kind}-{number}.png")
        rows.append({
            "path": f"{kind}-{number}.png", "class": f"OOD_{kind}", "source": kind, "group": f"{kind}-{number}",
            "label": f"OOD_{kind}", "licence": "CC0",
        })  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return folder


@pytest.fixture(name="write_phantoms", scope="session")
def _write_phantoms():
    """write_phantoms(folder, each=, strange=, size=): a manifest of drawn images."""
    return write_phantoms


@pytest.fixture(scope="session")
def phantom_collection(tmp_path_factory):
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
def phantom_data(tmp_path_factory):
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
    from medlike.training.train import Plan, train_network

    dataset, split, cache = phantom_data
    out = tmp_path_factory.mktemp("trained") / "small"
    return train_network([dataset], out, Plan("compact", 32, changes=SMALL, device="cpu"), split=split, cache=cache)
