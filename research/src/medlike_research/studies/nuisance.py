"""Nuisance: how content vectors scatter between an image and altered copies of it, learned on chosen sources.

One copy an image, altered in one way of a wide range of strengths, wider than what `known-item` asks about. Each source
weighs alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from medlike.codes.fit import LENGTH, weighed
from medlike.datasets import Dataset, Sample, files_digest, open_sample
from medlike.evaluation.encodings import keep
from medlike.imaging import letterbox, render
from medlike.inference import Encoder
from medlike.types import F64, I8, U8
from medlike_research.studies import perturbations as change
from medlike_research.studies.bench import Bench

RANK = 64  # directions of the scatter that are kept
A_SOURCE = 60  # images of each source at most


def factor_of(content: I8, altered: I8, sources: Sequence[str], widths: Sequence[int], rank: int = RANK) -> F64:
    """Return the factor N [D, R] of the scatter N N' of altered copies, largest directions first.

    Args:
        content: int8 [N, D], of images.
        altered: int8 [N, D], of a copy of each.
        sources: Source of each image; each source weighs alike.
        widths: Widths of the blocks of a content vector, each of which is brought to unit length.
        rank: Directions to keep at most.
    """
    shares = (1.0,) * len(widths)
    pairs = (weighed(rows, widths, shares).astype(np.float64) / LENGTH for rows in (content, altered))
    before, after = pairs
    _, source, counts = np.unique(np.asarray(sources), return_inverse=True, return_counts=True)
    weights = 1.0 / (counts[source] * len(counts))
    apart = (after - before) * np.sqrt(weights)[:, None]
    values, vectors = np.linalg.eigh(apart.T @ apart)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    factor: F64 = vectors * np.sqrt(np.maximum(values, 0.0))
    return factor


def drawn_change(number: int) -> change.Change:
    """Return one of seven kinds of change, of random strength; the same for a number every time."""
    random = np.random.default_rng(number)
    sign = 1 if random.random() < 0.5 else -1
    kinds = (
        lambda: change.jpeg(int(random.integers(10, 70))),
        lambda: change.resized(float(random.uniform(0.35, 0.8))),
        lambda: change.rotation(sign * float(random.uniform(2, 13))),
        lambda: change.noise(float(random.uniform(2, 9)), number),
        lambda: change.brightness(1 + sign * float(random.uniform(0.05, 0.25))),
        lambda: change.rewindowed(float(random.uniform(0.7, 1.3)), float(random.uniform(-0.15, 0.15))),
        lambda: change.crop(float(random.uniform(0.88, 0.98))),
    )
    return kinds[int(random.integers(len(kinds)))]()


@dataclass(frozen=True)
class Copies:
    """Content vectors of images and of an altered copy of each, int8 [N, D], and the source of each image."""

    content: I8
    altered: I8
    sources: list[str]
    widths: tuple[int, ...]

    def factor(self, sources: Collection[str], rank: int = RANK) -> F64:
        """Return the factor of some of the sources."""
        mask = np.isin(self.sources, sorted(sources))
        names = [name for name, chosen in zip(self.sources, mask.tolist(), strict=True) if chosen]
        return factor_of(self.content[mask], self.altered[mask], names, self.widths, rank)


def copies(bench: Bench) -> Copies:
    """Return copies of images of the train part of every source, by the bench's bundle; kept between studies."""
    chosen = images_to_alter(bench)
    bundle = bench.bundle
    file = bench.work / "encodings" / f"copies-{bundle.digest[:16]}-{files_digest(chosen)[:16]}.npz"
    if not file.is_file():
        pairs = []
        with Encoder(bundle) as encoder:
            for number, sample in enumerate(chosen):
                pairs.append(encoder.encode(pictures_of(sample, number, bundle.image_size)).content)
                if number % 250 == 0:
                    bench.say(f"altered copies: {number} of {len(chosen)} images")
        before, after = np.stack(pairs, axis=1)
        keep(file, {"content": before, "altered": after})
    with np.load(file) as stored:
        sources = [sample.source for sample in chosen]
        return Copies(stored["content"], stored["altered"], sources, bundle.content_blocks)


def images_to_alter(bench: Bench) -> Dataset:
    """Return the images that nuisance is learned on: some of the train part of every source."""
    train = bench.split.part(bench.wide, "train").where(lambda s: not (s.is_ood or s.apart))
    names = train.column("source")
    rows = np.sort(np.concatenate([_spread(np.flatnonzero(names == name)) for name in np.unique(names)]))
    return Dataset("nuisance", tuple(train[int(row)] for row in rows))


def pictures_of(sample: Sample, number: int, size: int) -> list[U8]:
    """Return an image and its altered copy, letterboxed: uint8 [size, size] each."""
    grey = render(open_sample(sample))
    return [letterbox(each, size)[0] for each in (grey, drawn_change(number)(grey))]


def _spread(rows: np.ndarray) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(A_SOURCE, len(rows))).astype(int))]
