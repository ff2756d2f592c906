"""What the study of texts compares: material, our network and its rivals, as parts of results."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from medlike.archive.index.bm25 import terms
from medlike.datasets import may_train
from medlike.errors import DatasetError
from medlike.inference.sentences import SentenceEncoder
from medlike.metrics import Relevance, RetrievalScores, score, score_codes, score_counts, score_features
from medlike.training.correlation import Correlation, canonical_correlation, sign_frame
from medlike.training.mcmfh import in_part
from medlike.training.pair_quality import CUT, DIRECTIONS, Cross, measure_pairs
from medlike.training.pairs import Pairs, read_pairs
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Result

OURS = "mcmfh"
ITQ = "ITQ on the embeddings"
PLAIN = "plain MLP hash"
FLOAT = "own float vector"
PERMUTED = "queries permuted"
REPEATS = 20  # random assignments of queries to the rankings of others
# The plain rival has no linear start, and its embedding is its code, so there is nothing to turn; it has the same
# loss, and of the rates 0.0005, 0.002 and 0.005 validation took the recipe's own.
PLAIN_CHANGES: Mapping[str, Any] = {"start": "random", "turned": False}
# Penalties of the canonical correlation under ITQ, of which validation takes one.
PENALTIES = (5.0, 10.0, 20.0, 40.0)
# name -> changes of the network, changes of the recipe.
ABLATIONS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "1 expert": ({"experts": 1}, {}),
    "2 experts": ({"experts": 2}, {}),
    "without dropout voting": ({"votes": False}, {}),
    "without gating loss": ({}, {"gating": 0.0}),
    "without mask training": ({}, {"masked": False}),
    "without fusion layers": ({"layers": 0}, {}),
    "start only, untrained": ({}, {"epochs": 0}),
    "cases only, no affinity of images": ({}, {"affinity": 0.0, "soft": 0.0}),
    "hash head as trained, not turned": ({}, {"turned": False}),
    "random start, all trained": ({}, {"start": "random", "projections": 1.0}),
}


class Material:
    """Pairs of the bench's collection by part: headline labels for queries and gallery, open terms for training."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @cached_property
    def everything(self) -> Pairs:
        """All pairs of the collection, whatever their part."""
        texts = self.bench.data.where(lambda s: bool(s.text) and not s.is_ood)
        if not len(texts):
            raise DatasetError(f"no image of {self.bench.data.name} has a text; give a manifest with a column `text`")
        with SentenceEncoder.load() as encoder:
            cache = self.bench.work / "pairs"
            return read_pairs(texts, self.bench.split, self.bench.bundle, encoder, cache, self.bench.say)

    def part(self, name: str, headline: bool = False) -> Pairs:
        """The pairs of a part; headline: those with a headline label only."""
        pairs = self.everything[in_part(self.everything, self.bench.split, name)]
        if headline:
            pairs = pairs[np.isin(pairs.samples.column("label"), self.bench.labels)]
        if self.bench.settings.limit is not None:
            pairs = pairs[np.unique(np.linspace(0, len(pairs) - 1, self.bench.settings.limit).astype(np.int64))]
        return pairs

    @cached_property
    def train(self) -> Pairs:
        """What methods train on: the part train, images whose terms allow it."""
        pairs = self.part("train")
        return pairs[np.array([may_train(sample) for sample in pairs.samples], bool)]

    @cached_property
    def validation(self) -> Pairs:
        """What methods are chosen on."""
        return self.part("validation")

    @cached_property
    def query(self) -> Pairs:
        """Headline queries."""
        return self.part("query", headline=True)

    @cached_property
    def gallery(self) -> Pairs:
        """The headline gallery."""
        return self.part("gallery", headline=True)

    @cached_property
    def inside(self) -> tuple[Pairs, Pairs] | None:
        """Queries and gallery of the one source that has several labels in both: where no source can be told."""
        best: tuple[Pairs, Pairs] | None = None
        for source in sorted(set(self.query.samples.column("source"))):
            both = [pairs[pairs.samples.column("source") == source] for pairs in (self.query, self.gallery)]
            several = all(len(set(pairs.samples.column("label"))) > 1 for pairs in both)
            if several and (best is None or len(both[0]) > len(best[0])):
                best = both[0], both[1]
        return best


def trained(
    material: Material,
    method: str,
    bits: int,
    seed: int,
    network: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
    plain: bool = False,
    shuffled: bool = False,
) -> Result:
    """Train one network and measure it: a part for its codes and one for its float vector.

    Our method and one trained on shuffled pairs also have a part for codes with permuted queries.
    """
    from medlike.models.mcmfh import CrossModalNetwork, preset
    from medlike.training.mcmfh_loop import CrossModalRecipe, crossed, fit_crossmodal
    from medlike_research.studies.plain_hash import PlainHash

    train = material.train.shuffled(seed) if shuffled else material.train
    width = train.content.shape[1]
    settings = preset(bits, image_width=width, seed=seed, **(network or {}))
    chosen = CrossModalRecipe().with_changes(**(recipe or {}))
    if material.bench.settings.epochs is not None and chosen.epochs:
        chosen = chosen.with_changes(epochs=material.bench.settings.epochs)
    # Shuffled pairs are judged on shuffled pairs: true ones would pick the epoch that knows most by chance.
    validation = material.validation.shuffled(seed) if shuffled else material.validation
    fit = fit_crossmodal(train, validation, settings, chosen, seed, PlainHash if plain else CrossModalNetwork)

    def cross(pairs: Pairs, image: bool, text: bool) -> tuple[np.ndarray, np.ndarray]:
        return crossed(fit.network, pairs, (float(image), float(text)))

    facts = {"seed": seed, "length": bits, "best_epoch": fit.best_epoch, "history": fit.history}
    codes, floats = measured(material, cross)
    parts = [
        {"method": method, "bits": bits, **facts, **codes},
        {"method": f"{method}, {FLOAT}", "bits": 0, **facts, **floats},
    ]
    if shuffled or method == OURS:
        null = permuted(material, cross, seed)
        parts.append({"method": f"{method}, {PERMUTED}", "bits": bits, "seed": seed, "length": bits, **null})
    return {"parts": parts}


def rotated(material: Material, bits: int, seed: int) -> Result:
    """Canonical correlation of the embeddings and iterative quantisation, its penalty chosen on validation."""
    train = material.train
    sides = (_unit_rows(train.content), train.sentences.astype(np.float64))
    best: tuple[float, Cross, float] | None = None
    for penalty in PENALTIES:
        found = canonical_correlation(*sides, bits, penalty)
        cross = _linear(found, bits, seed, sides)
        value = _validated(cross, material.validation)
        if best is None or value > best[0]:
            best = value, cross, penalty
    assert best is not None
    codes, floats = measured(material, best[1])
    facts = {"seed": seed, "length": bits, "penalty": best[2]}
    return {
        "parts": [
            {"method": ITQ, "bits": bits, **facts, **codes},
            {"method": "canonical correlation, float", "bits": 0, **facts, **floats},
        ]
    }


def chance(material: Material) -> Result:
    """Every order alike: codes that are all equal, in expectation over ties."""

    def cross(pairs: Pairs, image: bool, text: bool) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((len(pairs), 1), np.float32), np.zeros((len(pairs), 1), np.uint8)

    codes, _ = measured(material, cross)
    return {"parts": [{"method": "chance", "bits": 0, "seed": 0, "length": None, **codes}]}


def words(material: Material, bits: int, seed: int) -> Result:
    """Text to text: BM25 over words (SQLite FTS5), sentence vectors, and the trained network's text side."""
    from medlike.models.mcmfh import preset
    from medlike.training.mcmfh_loop import CrossModalRecipe, crossed, fit_crossmodal

    query, gallery = material.query.texts(), material.gallery.texts()
    relevance = Relevance.of(query.samples.column("label"), gallery.samples.column("label"))
    settings = preset(bits, image_width=material.train.content.shape[1], seed=seed)
    network = fit_crossmodal(material.train, material.validation, settings, CrossModalRecipe(), seed).network
    asked, items = (crossed(network, pairs, (0.0, 1.0)) for pairs in (query, gallery))
    table = bm25([s.text for s in query.samples], [s.text for s in gallery.samples])
    found = {
        "BM25": score(score_counts(-table, relevance), CUT),
        "sentence vectors": score_features(query.sentences, gallery.sentences, relevance, CUT),
        f"{OURS}, {FLOAT}": score_features(asked[0], items[0], relevance, CUT),
        f"{OURS}, {bits} bits": score_codes(asked[1], items[1], relevance, CUT),
    }
    return {
        "seed": seed,
        "texts": {name: _values(scores) for name, scores in found.items()},
        "units": query.units.tolist(),
    }


def bm25(queries: list[str], texts: list[str]) -> np.ndarray:
    """How well words match, float64 [Q, N], higher is better, 0 where no word is shared; any word of a query counts."""
    store = sqlite3.connect(":memory:")
    store.execute("CREATE VIRTUAL TABLE texts USING fts5(body, tokenize = 'porter unicode61')")
    store.executemany("INSERT INTO texts (rowid, body) VALUES (?, ?)", enumerate(texts))
    table = np.zeros((len(queries), len(texts)))
    for row, text in enumerate(queries):
        wanted = terms(text)
        if wanted:
            asked = " OR ".join(f'"{term}"' for term in wanted)
            for place, value in store.execute("SELECT rowid, bm25(texts) FROM texts WHERE texts MATCH ?", (asked,)):
                table[row, place] = -value
    store.close()
    return table


def measured(material: Material, cross: Cross) -> tuple[Result, Result]:
    """What codes and float vectors of a method reach, per query: two parts of a result."""
    parts: tuple[Result, Result] = ({"within": {}}, {"within": {}})
    whole = measure_pairs(cross, material.query, material.gallery)
    inside = measure_pairs(cross, *material.inside) if material.inside else {}
    for (protocol, direction), found in whole.items():
        for part, scores in zip(parts, (found.codes, found.floats), strict=True):
            part[f"{protocol}, {direction}"] = _values(scores) | {"units": found.queries.units.tolist()}
    for (protocol, direction), found in inside.items():
        for part, scores in zip(parts, (found.codes, found.floats), strict=True):
            part["within"][f"{protocol}, {direction}"] = scores.mean("map_at_k")
    return parts


def permuted(material: Material, cross: Cross, seed: int) -> Result:
    """What codes reach where each query is answered with the ranking of another; per query, the mean of REPEATS.

    A part of a result, of the protocol `single`. What a ranking owes to its query is lost; what it owes to the gallery,
    such as one kind of image that comes first whatever is asked, stays. So this, and not random order, is what a
    method that knows nothing of pairs comes to.
    """
    random = np.random.default_rng(seed)
    part: Result = {"within": {}}
    for direction in DIRECTIONS:
        found, asked = _permuted(cross, material.query, material.gallery, direction, random)
        part[f"single, {direction}"] = found | {"units": asked.units.tolist()}
        if material.inside:
            inside, _ = _permuted(cross, *material.inside, direction, random)
            part["within"][f"single, {direction}"] = float(np.nanmean(inside["at"]))
    return part


def _permuted(
    cross: Cross, query: Pairs, gallery: Pairs, direction: str, random: np.random.Generator
) -> tuple[Result, Pairs]:
    asks_text = direction == DIRECTIONS[0]
    asked, items = (query.texts(), gallery) if asks_text else (query, gallery.texts())
    codes, stored = cross(asked, not asks_text, asks_text)[1], cross(items, asks_text, not asks_text)[1]
    relevance = Relevance.of(asked.samples.column("label"), items.samples.column("label"))
    found = []
    for _ in range(REPEATS):
        order = random.permutation(len(asked))
        # Each takes the place of the one before it in a random order: no query keeps its own ranking.
        others = np.empty_like(order)
        others[order] = np.roll(order, 1)
        found.append(_values(score_codes(codes[others], stored, relevance, CUT)))
    return {key: np.mean([one[key] for one in found], axis=0).tolist() for key in found[0]}, asked


def _values(scores: RetrievalScores) -> Result:
    return {"at": scores.values["map_at_k"].tolist(), "full": scores.values["map_expected"].tolist()}


def _unit_rows(content: np.ndarray) -> np.ndarray:
    wide = content.astype(np.float64)
    wide -= wide.mean(axis=1, keepdims=True)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def _linear(found: Correlation, bits: int, seed: int, sides: tuple[np.ndarray, np.ndarray]) -> Cross:
    def common(image: np.ndarray | None, text: np.ndarray | None) -> np.ndarray:
        parts = []
        if image is not None:
            parts.append((image - found.first_mean) @ found.first)
        if text is not None:
            parts.append((text - found.second_mean) @ found.second)
        unit = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in parts]
        return np.asarray(np.mean(unit, axis=0))

    frame = sign_frame(np.concatenate([common(sides[0], None), common(None, sides[1])]), bits, seed=seed)

    def cross(pairs: Pairs, image: bool, text: bool) -> tuple[np.ndarray, np.ndarray]:
        rows = common(_unit_rows(pairs.content) if image else None, pairs.sentences if text else None)
        return rows.astype(np.float32), np.packbits(rows @ frame > 0, axis=1)

    return cross


def _validated(cross: Cross, pairs: Pairs) -> float:
    """mAP@50 of codes among validation pairs of other units, both directions."""
    image, text = cross(pairs, True, False)[1], cross(pairs, False, True)[1]
    relevance = pairs.relevance()
    values = [score_codes(a, b, relevance, CUT).mean("map_at_k") for a, b in ((image, text), (text, image))]
    return float(np.mean(values))


Run = Callable[[], Result]
