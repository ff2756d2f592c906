"""Study `known-item`: whether an altered copy of a stored image finds its original first, under the default search.

The archive holds the judged images of all sources, and its fit is made of their content vectors, as `medlike index`
makes it. The sources are in two halves: copies of one half search an archive whose fit learned nuisance on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from medlike.archive.intake.fitting import fitted
from medlike.codes.fit import Fit
from medlike.datasets import Dataset, files_digest, open_sample
from medlike.datasets.labels import can_be_headline, families
from medlike.evaluation.encodings import keep, picture_summaries
from medlike.imaging import letterbox, render
from medlike.inference import Encoder
from medlike.inference.encoding import DEFAULT_THRESHOLD, unit_length
from medlike.metrics import bootstrap_interval
from medlike.types import F64, I64
from medlike_research.studies import perturbations as change
from medlike_research.studies.bench import Bench
from medlike_research.studies.nuisance import copies
from medlike_research.studies.search_orders import cosine, hamming, neighbours, shortlist, tied
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Does a copy that was compressed, scaled, turned, windowed or cropped on its way find its original first, do its "
    "other hits stay as relevant, and is it flagged no more often?"
)
A_SOURCE = 24  # queries of each source at most
BITS = 64
NEAR_DUPLICATE = 6  # bits between perceptual hashes, up to which an image counts as the original
FIRST = 10

#: Share of copies that shall find their original first; None for no goal.
GOALS: Mapping[str, float | None] = {
    "JPEG quality 50": 0.99,
    "JPEG quality 20": 0.95,
    "half size": 0.99,
    "turned by 5 degrees": 0.99,
    "turned by 10 degrees": 0.95,
    "noise, deviation 5": 0.99,
    "brightness 15 %": 0.99,
    "window 20 %, centre 10 %": 0.99,
    "cropped by 5 %": 0.99,
    "mirrored": None,
}
SAME = "unchanged"
CODES, SHORTLIST, EXACT, DEFAULT = "fitted codes", "shortlist", "exact", "neighbours"
BLIND, FORMER = "neighbours, nuisance not known", "trained codes, ties by content"
ORDERS = (CODES, SHORTLIST, EXACT, DEFAULT, BLIND, FORMER)
_SECONDS = 60.0


def altered(name: str, row: int) -> change.Change:
    """Return a change; those with a direction go either way in turn, by the row of the image."""
    odd, other = row % 2 == 1, row // 2 % 2 == 1
    changes: dict[str, change.Change] = {
        SAME: lambda grey: grey,
        "JPEG quality 50": change.jpeg(50),
        "JPEG quality 20": change.jpeg(20),
        "half size": change.resized(0.5),
        "turned by 5 degrees": change.rotation(5 if odd else -5),
        "turned by 10 degrees": change.rotation(10 if odd else -10),
        "noise, deviation 5": change.noise(5, row),
        "brightness 15 %": change.brightness(1.15 if odd else 0.85),
        "window 20 %, centre 10 %": change.rewindowed(0.8 if odd else 1.2, 0.1 if other else -0.1),
        "cropped by 5 %": change.crop(0.95),
        "mirrored": change.mirrored,
    }
    return changes[name]


def cells(bench: Bench) -> list[Cell]:
    """One cell a change."""
    held = _Held(bench)
    return [Cell(name.replace(" ", "-").replace(",", "").replace("%", "percent"), _run(held, name), _SECONDS)
            for name in GOALS]  # fmt: skip


class _Held:
    """The archive and the queries, encoded once for all cells."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    @cached_property
    def gallery(self) -> Dataset:
        """The judged images of all sources; where the settings limit a study, so many of each source."""
        limit, seen = self.bench.settings.limit, dict[str, int]()

        def within(sample: Any) -> bool:
            seen[sample.source] = seen.get(sample.source, 0) + 1
            return can_be_headline(sample) and (limit is None or seen[sample.source] <= limit)

        return self.bench.wide.where(within)

    @cached_property
    def rows(self) -> I64:
        """Queries: of every source the same number, drawn, if it has so many."""
        random, sources = np.random.default_rng(5), self.gallery.column("source")
        chosen = [random.permutation(np.flatnonzero(sources == source))[:A_SOURCE] for source in np.unique(sources)]
        return np.sort(np.concatenate(chosen))

    @cached_property
    def units(self) -> I64:
        """Unit of each image of the gallery."""
        return self.bench.split.units(self.gallery)

    @cached_property
    def halves(self) -> np.ndarray:
        """The half of the sources that each image belongs to, kin together: 0 or 1, [N]."""
        half = {source: at % 2 for at, kin in enumerate(sorted(families(self.gallery))) for source in kin}
        return np.array([half[sample.source] for sample in self.gallery])

    @cached_property
    def fits(self) -> tuple[Fit, Fit, Fit]:
        """Fits of an archive of these images: for copies of each half, and one that knows of no nuisance."""
        _, unit, sizes = np.unique(self.units, return_inverse=True, return_counts=True)
        bundle, content, weights = self.bench.bundle, self.bench.encode(self.gallery).content, 1.0 / sizes[unit]
        sources = self.gallery.column("source")
        learned_on = copies(self.bench)
        known = (learned_on.factor(set(sources[self.halves == half].tolist())) for half in (1, 0))
        first, second = (fitted(content, weights, bundle.content_blocks, BITS, factor) for factor in known)
        return first, second, fitted(content, weights, bundle.content_blocks, BITS)

    @cached_property
    def originals(self) -> np.ndarray:
        """Which images count as the original of each query: bool [Q, N]."""
        hashes = picture_summaries(self.gallery, self.bench.work / "encodings").hashes
        same = np.bitwise_count(hashes[self.rows][:, None] ^ hashes) <= NEAR_DUPLICATE
        same[np.arange(len(self.rows)), self.rows] = True
        return same

    @cached_property
    def unchanged(self) -> Result:
        """Values of copies that are not altered."""
        return _searched(self, SAME)

    def copies(self, name: str) -> dict[str, np.ndarray]:
        """Return codes, content vectors and p-values of all copies that were altered in one way; kept between runs."""
        bundle, chosen = self.bench.bundle, Dataset("copies", tuple(self.gallery[int(row)] for row in self.rows))
        key = f"{bundle.digest[:16]}-{files_digest(chosen)[:16]}-{name.replace(' ', '-')}"
        file = self.bench.work / "encodings" / f"{key}.npz"
        if file.is_file():
            with np.load(file) as stored:
                return dict(stored)
        with Encoder(bundle) as encoder:
            parts = [
                encoder.encode([letterbox(altered(name, row)(render(open_sample(sample))), bundle.image_size)[0]])
                for row, sample in zip(self.rows.tolist(), chosen, strict=True)
            ]
        made = {
            "code": np.concatenate([part.code for part in parts]),
            "content": np.concatenate([part.content for part in parts]),
            "p": np.concatenate([np.full(1, np.nan) if part.outlier is None else part.outlier.p for part in parts]),
        }
        keep(file, made)
        return made


def _run(held: _Held, name: str) -> Callable[[], Result]:
    def run() -> Result:
        before, after = held.unchanged, _searched(held, name)
        chosen = [held.gallery[int(row)] for row in held.rows]
        return {
            "name": name,
            "before": before,
            "after": after,
            "units": held.units[held.rows].tolist(),
            "sources": [sample.source for sample in chosen],
            "halves": held.halves[held.rows].tolist(),
        }

    return run


def _searched(held: _Held, name: str) -> Result:
    """Values of each copy: original first by order, P@10 of the default order without its own unit, flagged."""
    copied = held.copies(name)
    first = {order: np.empty(len(held.rows)) for order in ORDERS}
    relevant = {order: np.empty(len(held.rows)) for order in (DEFAULT, BLIND)}
    labels = held.gallery.column("label")
    for half in np.unique(held.halves):
        inside = held.halves[held.rows] == half
        rows, units = held.rows[inside], held.units
        for order, distances in _orders(held, copied, inside, int(half)).items():
            first[order][inside] = first_originals(distances, held.originals[inside])
            if order in relevant:
                distances[units[rows][:, None] == units] = np.inf
                nearest = np.argsort(distances, axis=1, kind="stable")[:, :FIRST]
                relevant[order][inside] = (labels[nearest] == labels[rows][:, None]).mean(axis=1)
    return {
        "first": {order: values.tolist() for order, values in first.items()},
        "relevant": relevant[DEFAULT].tolist(),
        "relevant_blind": relevant[BLIND].tolist(),
        "flagged": (copied["p"] <= DEFAULT_THRESHOLD).astype(float).tolist(),
    }


def _orders(held: _Held, copied: Mapping[str, np.ndarray], inside: np.ndarray, half: int) -> dict[str, np.ndarray]:
    """Distances of the gallery to the copies of one half, by order."""
    stored = held.bench.encode(held.gallery)
    code = np.concatenate([stored.code, copied["code"][inside]])
    content = np.concatenate([stored.content, copied["content"][inside]])
    gallery = np.arange(len(held.gallery))
    queries = len(gallery) + np.arange(int(inside.sum()))
    codes, vectors = held.fits[half].encode(content)
    listed = shortlist(hamming(codes), cosine(unit_length(vectors)))
    blind_codes, blind = held.fits[2].encode(content)
    orders = {
        CODES: hamming(codes),
        SHORTLIST: listed,
        EXACT: cosine(unit_length(vectors)),
        DEFAULT: neighbours(listed, vectors, invariant=held.fits[half].invariant),
        BLIND: neighbours(shortlist(hamming(blind_codes), cosine(unit_length(blind))), blind),
        FORMER: tied(hamming(code), cosine(unit_length(content))),
    }
    return {order: distances(queries, gallery) for order, distances in orders.items()}


def first_originals(distances: np.ndarray, originals: np.ndarray) -> F64:
    """Return for each query the share of originals among its nearest images: 1 or 0 where one is nearest.

    Args:
        distances: [Q, N].
        originals: bool [Q, N].
    """
    nearest = distances == distances.min(axis=1, keepdims=True)
    share: F64 = (nearest & originals).sum(axis=1) / nearest.sum(axis=1)
    return share


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """All changes over all copies, over each half of the sources, and source by source."""
    results = list(done.values())
    tables = [_table("All sources", results, None)]
    tables += [_table(f"Half {half + 1} of the sources", results, half) for half in (0, 1)]
    tables.append(_by_source(results))
    queries = max((len(result["units"]) for result in results), default=0)
    notes = [
        f"{queries} copies a change, at most {A_SOURCE} of each source, made on the stored file's resolution; bundle "
        f"{bench.bundle.name}. The archive holds the originals and all other judged images. The original, or an image "
        f"whose perceptual hash differs in at most {NEAR_DUPLICATE} bits, must be the first hit. Codes alone: in "
        "expectation over the order of ties. P@10 is that of the default search, without images of the copy's own "
        "patient or case. Turned, brighter and windowed copies go either way in turn. Mirrored copies have no goal.",
        "Copies of one half of the sources search an archive whose fit learned nuisance on train images of the other. "
        f"With a bundle that has no array `content.nuisance`, the default search is that of the column '{BLIND}'."
        + _price(results),
    ]
    return Summary(tables, [], notes)


def _price(results: list[Result]) -> str:
    """Say what nuisance costs queries that are not altered."""
    if not results:
        return ""
    before = results[0]["before"]
    known, blind = np.array(before["relevant"]), np.array(before["relevant_blind"])
    interval = bootstrap_interval(known - blind, np.array(results[0]["units"]))
    return (
        f" P@10 of queries that are not altered is {known.mean():.3f} with it and {blind.mean():.3f} without "
        f"(difference {interval.mean:+.3f}, 95 % {interval.low:+.3f} to {interval.high:+.3f})."
    )


def _of(sources: Any, result: Result) -> np.ndarray:
    return np.isin(result["sources"], sources)


def _table(title: str, results: list[Result], half: int | None) -> tuple[str, Any, Any]:
    head = ("change", "goal", *ORDERS, f"95 % of {DEFAULT}", "P@10", "relative change", "flagged", "change, points")
    rows: list[list[Any]] = []
    for result in results:
        halves, goal = np.array(result["halves"]), GOALS[result["name"]]
        mask = np.ones(len(halves), bool) if half is None else halves == half
        if not mask.any():
            continue
        before, after = result["before"], result["after"]
        first = {order: np.array(after["first"][order])[mask] for order in ORDERS}
        interval = bootstrap_interval(first[DEFAULT], np.array(result["units"])[mask])
        values = {
            key: [float(np.mean(np.array(side[key])[mask])) for side in (before, after)]
            for key in ("relevant", "flagged")
        }
        (clean, relevant), (usual, flagged) = values["relevant"], values["flagged"]
        rows.append([
            result["name"],
            "" if goal is None else f"{goal:.0%}",
            *(float(first[order].mean()) for order in ORDERS),
            f"{interval.low:.3f} to {interval.high:.3f}",
            relevant,
            f"{relevant / clean - 1:+.1%}" if clean else "",
            flagged,
            f"{100 * (flagged - usual):+.1f}",
        ])  # fmt: skip
    return title, head, rows


def _by_source(results: list[Result]) -> tuple[str, Any, Any]:
    """Originals first under the default search, a row a source, worst first."""
    rows: list[list[Any]] = []
    for source in sorted({source for result in results for source in result["sources"]}):
        shares = [
            float(np.mean(np.array(result["after"]["first"][DEFAULT])[_of([source], result)])) for result in results
        ]
        copies = int(_of([source], results[0]).sum())
        rows.append([source, copies, *shares])
    rows.sort(key=lambda row: float(np.mean(row[2:])))
    return "Originals first, by source, worst first", ("source", "copies", *(r["name"] for r in results)), rows


STUDY = Study("known-item", QUESTION, cells, summarise, of_bundle=True, trains=False)
