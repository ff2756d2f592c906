"""Study `familiar`: does a search say that an archive holds nothing like the images of a hospital that it lacks?

Every source leaves the archive in turn, with those of the same hospital. The archive is fitted to what is left, and
judges the images of the source: before any of them is in, and the others after some are. All as `Familiarity` judges,
but for the shortlist by code: the nearest images are those of a full scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medlike.archive.index.neighbours import NEAREST, SIZE, closeness
from medlike.archive.intake.fitting import fitted
from medlike.archive.search.familiarity import LOCAL, THRESHOLD
from medlike.datasets.labels import origin_of
from medlike.evaluation.tables import between
from medlike.metrics import bootstrap_interval
from medlike.training.outlier_fit import one_of_each
from medlike.types import F32, F64, I8, I64, Array
from medlike_research.studies.bench import Bench
from medlike_research.studies.study import Cell, Result, Study, Summary

QUESTION = (
    "Does a search say that nothing is alike for images of a hospital that the archive lacks, and does it stop saying "
    "so once some of its images are in?"
)
IMAGES = (0, 50, 200, 500)  # of the source that are in the archive
LEAST_JUDGED = 5
NOW, FORMER = "five nearest, compared around the query", "most similar, compared with the whole archive"
ONE_LOCAL, FIVE_GLOBAL = "most similar, compared around the query", "five nearest, compared with the whole archive"


@dataclass(frozen=True)
class _Archive:
    """content: int8 [N, D]; units: int64 [N]; origins: [N], hospitals; widths: of the content's blocks.

    nuisance: what the bundle knows of altered copies.
    """

    content: I8
    units: I64
    origins: np.ndarray
    widths: tuple[int, ...]
    nuisance: Array | None


def cells(bench: Bench) -> list[Cell]:
    """Return one cell, since all sources share the encodings."""
    return [Cell("sources", lambda: _sources(bench), 600, "search")]


def _sources(bench: Bench) -> Result:
    data = bench.limited(bench.wide.where(lambda s: not s.is_ood and not s.apart))
    units = np.asarray(bench.split.units(data), np.int64)
    origins = np.array([origin_of(sample) for sample in data])
    archive = _Archive(bench.encode(data).content, units, origins, bench.bundle.content_blocks, bench.bundle.nuisance)
    judged: list[dict[str, Any]] = []
    for origin in np.unique(origins):
        bench.say(f"without {origin}")
        judged += _origin(archive, str(origin), [min(images, bench.settings.limit or images) for images in IMAGES])
    return {"judged": judged}


def _origin(archive: _Archive, origin: str, images: list[int]) -> list[dict[str, Any]]:
    """Return the shares by rule of the images of a source, for every number of its images in the archive."""
    away = np.flatnonzero(archive.origins == origin)
    others = np.flatnonzero(archive.origins != origin)
    fit = fitted(
        archive.content[others], _alike(archive.units[others]), archive.widths, nuisance=archive.nuisance
    )
    vectors = fit.encode(archive.content)[1].astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1.0)
    random = np.random.default_rng(0)
    order = random.permutation(np.unique(archive.units[away]))
    sizes = np.cumsum([int((archive.units[away] == unit).sum()) for unit in order])
    rows = []
    for count in dict.fromkeys(images):
        inside = np.isin(archive.units[away], order[: int(np.searchsorted(sizes, count)) + 1 if count else 0])
        queries = away[~inside]
        if inside.sum() < count or len(queries) < LEAST_JUDGED:
            continue
        shares = _judged(vectors, archive.units, np.concatenate([others, away[inside]]), queries)
        flagged = {rule: (share <= THRESHOLD).astype(int).tolist() for rule, share in shares.items()}
        rows.append(
            {"origin": origin, "inside": count, "units": archive.units[queries].tolist(), "flagged": flagged}
        )
    return rows


def _alike(units: I64) -> F64:
    """Return weights by which each patient counts alike."""
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    return 1.0 / counts[place]


def _judged(vectors: F32, units: I64, inside: I64, queries: I64) -> dict[str, F64]:
    """Return the p-value of every query under every rule: float64 [Q]."""
    sample = inside[one_of_each(units[inside], np.random.default_rng(1))]
    sample = np.random.default_rng(2).permutation(sample)[:SIZE]
    usual, asked = (_nearest(vectors, units, inside, rows) for rows in (sample, queries))
    around = np.argsort(-(vectors[queries] @ vectors[sample].T), axis=1, kind="stable")[:, :LOCAL]
    shares = {}
    for near, everywhere, count in ((NOW, FIVE_GLOBAL, NEAREST), (ONE_LOCAL, FORMER, 1)):
        stored, query = closeness(usual[:, :count]), closeness(asked[:, :count])
        shares[near] = (1 + (stored[around] <= query[:, None]).sum(axis=1)) / (1 + around.shape[1])
        shares[everywhere] = (1 + np.searchsorted(np.sort(stored), query, side="right")) / (1 + len(stored))
    return shares


def _nearest(vectors: F32, units: I64, inside: I64, rows: I64) -> F32:
    """Return the similarities of each row's nearest images of other units, float32 [M, NEAREST], descending."""
    parts = []
    for start in range(0, len(rows), 500):
        block = rows[start : start + 500]
        similarities = vectors[block] @ vectors[inside].T
        similarities[units[block][:, None] == units[inside]] = -2.0
        parts.append(-np.sort(-np.partition(similarities, -NEAREST, axis=1)[:, -NEAREST:], axis=1))
    return np.concatenate(parts).astype(np.float32)


def summarise(bench: Bench, done: Mapping[str, Result]) -> Summary:
    """Flagged before and after, pooled by rule and by source."""
    judged = [row for result in done.values() for row in result["judged"]]
    counts = sorted({row["inside"] for row in judged})
    names = sorted({row["origin"] for row in judged})
    halves = {"all": names, "chosen on": names[::2], "not chosen on": names[1::2]}
    pooled: list[list[Any]] = []
    for rule in (NOW, FIVE_GLOBAL, ONE_LOCAL, FORMER):
        for half, chosen in halves.items():
            for count in counts:
                rows = [row for row in judged if row["inside"] == count and row["origin"] in chosen]
                if rows:
                    pooled.append([rule, half, count, *_pooled(rows, rule, half == "all" and rule in (NOW, FORMER))])
    head = ("rule", "sources", "of it in the archive", "sources", "images", "flagged", "95 %", "mean over sources",
            "flagged 80 % or more", "flagged 5 % or less")  # fmt: skip
    by_source: list[list[Any]] = []
    for name in names:
        shown: list[Any] = [name]
        for rule in (NOW, FORMER):
            for count in counts:
                match = [row for row in judged if (row["origin"], row["inside"]) == (name, count)]
                shown.append(float(np.mean(match[0]["flagged"][rule])) if match else None)
        by_source.append([name, *[len(row["units"]) for row in judged if row["origin"] == name][:1], *shown[1:]])
    columns = [f"{label}: {count} in" for label in ("now", "before") for count in counts]
    tables = [
        ("Images of a source, flagged as like nothing in the archive", head, pooled),
        ("By source", ("source", "images", *columns), by_source),
    ]
    notes = [
        "A source leaves with others of the same hospital; 0 in: the archive lacks it, and flagged is right. After 50, "
        "200 or 500 of its images are in, by whole patients, its other patients are judged, and flagged is wrong. The "
        "archive is all other sources, fitted as the product does; the bundle was trained on part of every source, so "
        "a new hospital may be flagged less. Brain MR comes from six sources here: to these, each other's images are "
        "familiar, and few are flagged. medpix2 is a mixture of patients who resemble nobody.",
        f"`{NOW}` is what `Result.familiarity` does. Tried on every second source (`chosen on`): 1, 3, 5 and 10 "
        "nearest, the whole sample or its 50 to 400 images nearest to the query. 10 flagged half a point more than 5, "
        "which were taken because they ask for fewer images. Evened-out spaces and single blocks of the content "
        "flagged fewer.",
    ]
    return Summary(tables, [], notes)


def _pooled(rows: list[dict[str, Any]], rule: str, interval: bool) -> list[Any]:
    flagged = np.concatenate([np.asarray(row["flagged"][rule], float) for row in rows])
    units = np.concatenate([np.asarray(row["units"], np.int64) for row in rows])
    whole = ""
    if interval:
        drawn = bootstrap_interval(flagged, units)
        whole = between([drawn.low, drawn.high])
    means = np.array([np.mean(row["flagged"][rule]) for row in rows])
    return [len(rows), len(flagged), float(flagged.mean()), whole, float(means.mean()), int((means >= 0.8).sum()),
            int((means <= 0.05).sum())]  # fmt: skip


STUDY = Study("familiar", QUESTION, cells, summarise, of_bundle=True, trains=False)
