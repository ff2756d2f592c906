"""A small labelled collection of two hospitals, written as files."""

import csv

import numpy as np
import pytest
from PIL import Image

from medlike.datasets import read_manifest
from medlike.evaluation.bundles import evaluate_bundles
from medlike.evaluation.report import write_report
from medlike.evaluation.settings import EvaluationSettings

CLASSES = ("disc", "ring", "bars")


def drawn(kind: str, size: int, shift: int, seed: int) -> np.ndarray:
    """A grey picture of one kind, a little different for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:96, 0:96] - 48.0 + shift
    radius = np.hypot(y, x)
    shape = {"disc": radius < size, "ring": abs(radius - size) < 7, "bars": (x // size) % 2 == 0}[kind]
    blobs = np.kron(rng.normal(0, 18, (8, 8)), np.ones((12, 12)))
    return np.clip(60 + 110 * shape + blobs, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """manifest.csv of 2 sources x 3 labels x 25 images, two images a patient, and 24 OOD images."""
    root = tmp_path_factory.mktemp("collection")
    rows, number = [], 0
    for source in ("north", "south"):
        for kind in CLASSES:
            for n in range(25):
                picture = drawn(kind, 14 + n % 12, (5 if source == "south" else -5), number)
                Image.fromarray(255 - picture if source == "south" else picture).save(root / f"{number}.png")
                licence = "CC BY 4.0" if n % 2 else "not stated"
                rows.append((f"{number}.png", kind, source, f"p{kind}{n // 2}", "CT", "chest", "class", licence))
                number += 1
    for n in range(24):
        noise = np.random.default_rng(n).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"ood{n}.png")
        rows.append((f"ood{n}.png", "OOD_noise", "web", "", "photo", "none", "ood", "CC0"))
    with (root / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "source", "group", "modality", "region", "task", "licence"])
        writer.writerows(rows)
    return root / "manifest.csv"


@pytest.fixture(scope="session")
def outcome(collection, tiny_bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    settings = EvaluationSettings(minimum=20)
    result = evaluate_bundles([str(tiny_bundle.path)], read_manifest(collection), out, settings=settings)
    write_report(result, out)
    return result, out
