"""Grouped splits: five disjoint parts by unit, written as a file of paths with a digest.

A unit is a connected component of (same group within a source) and (near-duplicate by perceptual hash), so no
patient and no copy of an image is on two sides. OOD samples go half to calibration, half to query.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from medlike import strict_json
from medlike.datasets.near_duplicates import NEAR, components, near_pairs
from medlike.datasets.sample import Dataset, Sample
from medlike.errors import DatasetError
from medlike.files import PRIVATE, write_text

PARTS = ("train", "validation", "calibration", "gallery", "query")
SHARES: Mapping[str, float] = {
    "train": 0.5, "validation": 0.1, "calibration": 0.1, "gallery": 0.2, "query": 0.1,
}  # fmt: skip
OOD_SHARES: Mapping[str, float] = {"calibration": 0.5, "query": 0.5}
FORMAT = 1

T = TypeVar("T")


@dataclass(frozen=True)
class Split:
    """Which part and which unit every path belongs to. Paths are those of the Dataset it was made from."""

    name: str
    part_of: Mapping[str, str]
    unit_of: Mapping[str, int]
    settings: Mapping[str, object]

    @cached_property
    def digest(self) -> str:
        """Return the sha256 over the sorted lines `path<TAB>part<TAB>unit`; equal splits have equal digests."""
        lines = (f"{p}\t{self.part_of[p]}\t{self.unit_of[p]}\n" for p in sorted(self.part_of))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def part(self, dataset: Dataset, *names: str) -> Dataset:
        """Return the samples of one or several parts, in the dataset's order; unknown samples are left out."""
        for name in names:
            if name not in PARTS:
                raise DatasetError(f"{name!r} is no part; the parts are {', '.join(PARTS)}")
        return dataset.where(lambda s: self._lookup(self.part_of, s) in names)

    def units(self, dataset: Dataset) -> np.ndarray:
        """Return the unit of every sample, int64 [N]; raises DatasetError for samples the split does not know."""
        units = [self._lookup(self.unit_of, s) for s in dataset]
        unknown = [s.path for s, unit in zip(dataset, units, strict=True) if unit is None]
        if unknown:
            raise DatasetError(
                f"{len(unknown)} samples are not in split {self.name!r} ({unknown[0]}, ...); "
                "make a split for this dataset"
            )
        return np.array(units, dtype=np.int64)

    def _lookup(self, table: Mapping[str, T], sample: Sample) -> T | None:
        """Look a sample up by path, or with the collection's name in front, so a joint split serves each collection."""
        return table.get(sample.path, table.get(f"{sample.collection}/{sample.path}"))

    def save(self, path: str | Path) -> None:
        """Write as JSON: format, name, digest, settings, and for every part its [path, unit] rows.

        A path can name a patient: only the file's owner may read it.
        """
        rows: dict[str, list] = {part: [] for part in PARTS}
        for p in sorted(self.part_of):
            rows[self.part_of[p]].append([p, self.unit_of[p]])
        facts = {"format": FORMAT, "name": self.name, "digest": self.digest, "settings": dict(self.settings)}
        lines = [f'"{k}": {json.dumps(v)}' for k, v in facts.items()]
        lines += [
            f'"{part}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows[part]) + "\n]"
            for part in PARTS
        ]
        write_text(Path(path), "{\n" + ",\n".join(lines) + "\n}\n", PRIVATE)

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Read a split file. Raises DatasetError when it is damaged or its digest does not match its rows."""
        try:
            content = strict_json.read(Path(path))
            if content["format"] != FORMAT:
                raise DatasetError(f"{path} has split format {content['format']}, not {FORMAT}; make it again")
            part_of = {p: part for part in PARTS for p, _ in content[part]}
            unit_of = {p: int(u) for part in PARTS for p, u in content[part]}
            split = cls(content["name"], part_of, unit_of, content["settings"])
            stated, rows = content["digest"], sum(len(content[part]) for part in PARTS)
        except FileNotFoundError:
            raise DatasetError(f"split file {path} does not exist; check its name") from None
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} is not a split file: {error!r}") from error
        if split.digest != stated or rows != len(part_of):
            raise DatasetError(
                f"{path} was changed by hand: digest {split.digest[:12]} of its rows is not {stated[:12]}; "
                "make it again"
            )
        return split


def find_units(dataset: Dataset, hashes: np.ndarray, distance: int = NEAR) -> np.ndarray:
    """Find the unit of every sample: int64 [N], numbered by first appearance.

    An empty group joins nothing.

    Args:
        dataset: N samples.
        hashes: Perceptual hashes of the same samples, uint64 [N].
        distance: Largest Hamming distance of near-duplicates, bits.
    """
    if len(hashes) != len(dataset):
        raise DatasetError(f"{len(hashes)} hashes for {len(dataset)} samples; give one each")
    first: dict[tuple[str, str, str], int] = {}
    same_group = [
        (first.setdefault((s.collection, s.source, s.group), row), row) for row, s in enumerate(dataset) if s.group
    ]
    pairs = np.concatenate([
        near_pairs(hashes, distance),
        np.array(same_group, dtype=np.int64).reshape(-1, 2),
    ])  # fmt: skip
    return components(len(dataset), pairs)


def make_split(
    dataset: Dataset,
    hashes: np.ndarray,
    name: str | None = None,
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
    distance: int = NEAR,
) -> Split:
    """Distribute units over the five parts so that every label of every source comes near the shares.

    Greedy: large units first; each goes to the part where it lowers the chi-square distance to the target counts most.
    The same input and seed give the same split everywhere.

    Args:
        dataset: N samples.
        hashes: Perceptual hashes of the same samples, uint64 [N].
        name: Name of the split; by default that of the dataset.
        seed: Orders units of equal size.
        shares: Share of each of PARTS, above 0; they sum to 1.
        distance: Largest Hamming distance of near-duplicates, bits.

    Raises:
        DatasetError: `shares` or the number of hashes does not fit.
    """
    if set(shares) != set(PARTS) or abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) <= 0:
        raise DatasetError(f"shares must name {', '.join(PARTS)}, be above 0 and sum to 1, not {dict(shares)}")
    units = find_units(dataset, hashes, distance)
    parts = _deal(list(dataset), units, seed, shares)
    return Split(
        name=name or dataset.name,
        part_of={s.path: PARTS[parts[u]] for s, u in zip(dataset, units, strict=True)},
        unit_of={s.path: int(u) for s, u in zip(dataset, units, strict=True)},
        settings={"seed": seed, "shares": dict(shares), "distance": distance, "samples": len(dataset)},
    )


def _deal(samples: Sequence[Sample], units: np.ndarray, seed: int, shares: Mapping[str, float]) -> np.ndarray:
    strata = {key: n for n, key in enumerate(dict.fromkeys((s.source, s.label, s.is_ood) for s in samples))}
    stratum = np.array([strata[s.source, s.label, s.is_ood] for s in samples], dtype=np.int64)
    is_ood = np.array([key[2] for key in strata])
    fraction = np.array([[shares[p] for p in PARTS], [OOD_SHARES.get(p, 0.0) for p in PARTS]])
    totals = np.bincount(stratum, minlength=len(strata)).astype(np.float64)
    target = totals[:, None] * fraction[is_ood.astype(int)]
    # A part whose target is empty costs more than any other, and a unit with OOD images never goes there.
    scale = 1.0 / np.maximum(target, 1e-3)
    have = np.zeros_like(target)

    count = int(units.max()) + 1 if len(units) else 0
    members = np.argsort(units, kind="stable")
    bounds = np.searchsorted(units[members], np.arange(count + 1))
    sizes = np.diff(bounds)
    jitter = np.random.default_rng(seed).random(count)
    result = np.zeros(count, np.int64)
    for unit in np.lexsort((jitter, -sizes)):
        present, n = np.unique(stratum[members[bounds[unit] : bounds[unit + 1]]], return_counts=True)
        cost = ((2 * (have[present] - target[present]) * n[:, None] + n[:, None] ** 2) * scale[present]).sum(axis=0)
        if is_ood[present].any():
            cost[[p not in OOD_SHARES for p in PARTS]] = np.inf
        part = int(np.argmin(cost))
        result[unit] = part
        have[present, part] += n
    return result
