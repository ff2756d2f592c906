"""Comparisons of methods are paired by query and corrected over all rows."""

from pathlib import Path

import numpy as np
import pytest

from medlike.datasets import Dataset, Sample
from medlike.evaluation.assessment import assess, compare
from medlike.evaluation.protocols import Arena
from medlike.evaluation.representation import Representation
from medlike.metrics import holm, paired_permutation


def part(name: str, count: int) -> Dataset:
    return Dataset(name, tuple(
        Sample(
            path=f"{name}{n}", file=Path(f"{n}"), label="ab"[n % 2], coarse="a", source="s", modality="CT",
            region="chest",
        )
        for n in range(count)
    ))  # fmt: skip


def codes(seed: int, count: int) -> Representation:
    return Representation(codes=np.random.default_rng(seed).integers(0, 256, (count, 1), dtype=np.uint8))


def test_methods_are_compared_with_the_baseline_on_the_same_queries():
    arena = Arena("t", part("q", 8), part("g", 30), np.arange(8), 100 + np.arange(30))
    methods = [assess(str(n), "bundle", arena, codes(n, 8), codes(9 + n, 30), k=5) for n in range(3)]
    rows = compare(methods, methods[0])
    assert [(row["method"], row["protocol"]) for row in rows] == [
        ("1", "pooled"), ("1", "within source"), ("2", "pooled"), ("2", "within source")
    ]  # fmt: skip
    first = rows[0]
    assert first["difference"] == pytest.approx(np.mean(methods[1].pooled.ap - methods[0].pooled.ap))
    assert first["p"] == paired_permutation(methods[1].pooled.ap, methods[0].pooled.ap, np.arange(8))
    assert [row["p_holm"] for row in rows] == holm([row["p"] for row in rows])


def test_within_one_source_the_figures_are_the_pooled_ones():
    arena = Arena("t", part("q", 8), part("g", 30), np.arange(8), 100 + np.arange(30))
    figures = assess("m", "bundle", arena, codes(1, 8), codes(2, 30), facts={"digest": "d"}).figures
    assert figures["map_within_source"] == pytest.approx(figures["map_expected"])
    assert figures["digest"] == "d" and "train_in_gallery" not in figures
