"""What every study works on: collections, split, parts, folders, device and the settings of the command."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, Split, headline_labels
from medlike.errors import DatasetError
from medlike.evaluation.encodings import Encoded, encode_dataset
from medlike.evaluation.protocols import Arena, headline_arena
from medlike_research.development.collections import CROSS_SOURCE_CLASSES, LENIENT_CLASSES, development
from medlike_research.development.split import development_split
from medlike_research.studies.settings import BenchSettings

Say = Callable[[str], None]


# The device does not change what is measured, stem and bundle have digests of their own; lengths, seeds and folds
# their own cells, so that a study goes on with more of them.
_NOT_IN_DIGEST = ("device", "stem", "bundle", "bits", "seeds", "folds")


@dataclass(frozen=True)
class Bench:
    """data: what headlines are taken from. wide: data and further collections, for cross-source studies.

    work: folder for caches that all studies share. say: a line of progress. classes, lenient: see across_sources.
    """

    data: Dataset
    wide: Dataset
    split: Split
    work: Path
    settings: BenchSettings = field(default_factory=BenchSettings)
    say: Say = lambda text: None
    classes: tuple[str, ...] | None = None
    lenient: frozenset[str] = frozenset()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The headline labels, counted in all of `data`."""
        return headline_labels(self.data)

    @cached_property
    def arena(self) -> Arena:
        """Headline queries against the headline gallery."""
        arena = headline_arena(self.data, self.split, labels=self.labels)
        limit = self.settings.limit
        if limit is None:
            return arena
        q, g = _spread(len(arena.queries), limit), _spread(len(arena.gallery), limit)
        return arena.rows(q, g, f"headline, {limit} images a part")

    def part(self, *names: str) -> Dataset:
        """Headline samples of one or several parts."""
        wanted = set(self.labels)
        found = self.split.part(self.data, *names).where(lambda s: s.label in wanted and not s.is_ood and not s.apart)
        return self.limited(found)

    def limited(self, data: Dataset) -> Dataset:
        """The dataset, thinned out evenly where the settings limit it."""
        if self.settings.limit is None:
            return data
        return Dataset(data.name, tuple(data[int(n)] for n in _spread(len(data), self.settings.limit)))

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle under study: the one named, else the default."""
        from medlike import bundle

        return Bundle.load(self.settings.bundle or bundle.default())

    def encode(self, data: Dataset) -> Encoded:
        """What the bundle says of some samples; kept between studies."""
        return encode_dataset(self.bundle, data, self.work / "encodings")

    @cached_property
    def digest(self) -> str:
        """Tells results that belong together: settings, split and collections."""
        wanted = set(self.labels)
        facts = {
            "settings": {k: v for k, v in vars(self.settings).items() if k not in _NOT_IN_DIGEST},
            "stem": self.stem_digest,
            "split": self.split.digest,
            "data": [f"{s.path}\t{s.label}" for s in self.data if s.label in wanted],
            "wide": [f"{s.path}\t{s.label}" for s in self.wide],
            "bundle": None if self.settings.bundle is None else self.bundle.digest,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def stem_digest(self) -> str | None:
        """sha256 of the stem's weights, None where none are given."""
        if self.settings.stem is None:
            return None
        with Path(self.settings.stem).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def configuration(self, of_bundle: bool = False, trains: bool = True) -> dict[str, Any]:
        """Everything that a reader needs to run the study again.

        of_bundle: whether it measures a bundle; trains: whether it trains. What has no part in it is not named.
        """
        bundle = {"name": self.bundle.name, "digest": self.bundle.digest} if of_bundle else None
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.settings).items()}
        settings["stem"] = None if self.settings.stem is None else Path(self.settings.stem).name
        if not trains:
            settings = {k: settings[k] for k in ("bundle", "device", "limit")}
        return {
            "bundle": bundle,
            "settings": settings,
            "stem_sha256": self.stem_digest if trains else None,
            "split": {"name": self.split.name, "digest": self.split.digest},
            "data": self.data.name,
            "images": len(self.data),
            "wide": self.wide.name,
            "labels": list(self.labels),
        }


def open_bench(folders: list[Path], split: Path | None, work: Path, settings: BenchSettings, say: Say) -> Bench:
    """The bench of a command: the collections named, else the development collections.

    The first collection gives the headlines; with none named that is `dev`, and `dev2` joins it where sources are
    compared. Raises DatasetError where neither is there.
    """
    from medlike.datasets import join, read_collection

    if not folders:
        wide = development()
        data = development(("dev",))
        chosen = development_split(split)
        return Bench(data, wide, chosen, work, settings, say, CROSS_SOURCE_CLASSES, LENIENT_CLASSES)
    read = [read_collection(folder) for folder in folders]
    data, wide = join(read[0]), join(*read)
    if split is None:
        kept = work / "split.json"
        if not kept.is_file():
            say(f"making a split of {len(wide)} images")
            from medlike.datasets import hash_samples, make_split

            work.mkdir(parents=True, exist_ok=True)
            make_split(wide, hash_samples(wide)).save(kept)
        split = kept
    loaded = Split.load(split)
    if not len(loaded.part(data, "query")):
        raise DatasetError(f"{split} knows no query image of {data.name}; give its own split, or none")
    return Bench(data, wide, loaded, work, settings, say)


def _spread(count: int, limit: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(limit, count)).astype(int))
