"""Retrieval protocols: which images are queries, which are the gallery, and which are relevant.

All figures are per query first, so that intervals and paired tests can be drawn by unit afterwards. A gallery
image of the query's own unit (patient, near-duplicate) never takes part in its ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medlike.datasets import Dataset, Sample, Split, coarse_class
from medlike.datasets.labels import headline_labels, origin_of
from medlike.errors import DatasetError
from medlike.evaluation.parts import Parts, parted
from medlike.evaluation.representation import Representation, rank
from medlike.metrics import Relevance, RetrievalScores, score, score_counts


@dataclass(frozen=True)
class Retrieval:
    """Hold one protocol's outcome for one method.

    Attributes:
        scores: Of Q queries.
        queries: The queries.
        units: Patient or case of each query, int64 [Q].
    """

    scores: RetrievalScores
    queries: Dataset
    units: np.ndarray

    @property
    def ap(self) -> np.ndarray:
        """Return the AP of every query, expected over ties: float64 [Q], NaN where nothing is relevant."""
        return self.scores.values["map_expected"]

    def by(self, column: str) -> Parts:
        """Return AP and units of the queries of each value of a field (label, source, modality)."""
        return parted(self.queries.column(column), self.ap, self.units)


@dataclass(frozen=True)
class Arena:
    """Hold queries and gallery of one protocol; representations follow the same rows.

    Attributes:
        name: Of the protocol.
        queries: Q images.
        gallery: N images.
        units: Patient or case of each query, int64 [Q].
        gallery_units: Patient or case of each gallery image, int64 [N].
    """

    name: str
    queries: Dataset
    gallery: Dataset
    units: np.ndarray
    gallery_units: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.queries) or not len(self.gallery):
            raise DatasetError(
                f"{self.name}: {len(self.queries)} queries and {len(self.gallery)} gallery images; "
                "both are needed: give a larger collection"
            )

    def relevance(self) -> Relevance:
        """Return what is relevant: the same label; pairs of one unit are left out."""
        return Relevance.of(self.queries.column("label"), self.gallery.column("label"), self.units, self.gallery_units)

    def rows(self, queries: np.ndarray, gallery: np.ndarray, name: str) -> Arena:
        """Return a smaller arena of some rows of the queries and of the gallery."""
        parts = (_rows(self.queries, queries), _rows(self.gallery, gallery))
        return Arena(name, *parts, self.units[queries], self.gallery_units[gallery])


def headline_arena(
    data: Dataset, split: Split, train_in_gallery: bool = False, labels: tuple[str, ...] | None = None
) -> Arena:
    """Return the query part against the gallery part over the headline labels.

    Args:
        data: The collection.
        split: Its parts.
        train_in_gallery: Follow the protocol of most papers, in which training images are in the gallery; easier.
        labels: Headline labels; by default those of `data`, by their count in all of it and not in a part.

    Raises:
        DatasetError: No label has enough images, or a part is empty.
    """
    allowed = set(headline_labels(data) if labels is None else labels)
    if not allowed:
        raise DatasetError(f"{data.name} has no label with enough images; lower --minimum, or give more images")
    chosen = data.where(lambda s: s.label in allowed and not s.is_ood and not s.apart)
    queries = split.part(chosen, "query")
    gallery = split.part(chosen, *(("gallery", "train") if train_in_gallery else ("gallery",)))
    name = "train inside the gallery" if train_in_gallery else "headline"
    return Arena(name, queries, gallery, split.units(queries), split.units(gallery))


def everything_arena(data: Dataset, units: np.ndarray) -> Arena:
    """Return every labelled image as a query against all others, for collections that were never trained on.

    Args:
        data: N images.
        units: Patient or case of each, int64 [N].

    Raises:
        DatasetError: No image has a label.
    """
    rows = np.flatnonzero([bool(s.label) and not s.is_ood for s in data])
    chosen, chosen_units = _rows(data, rows), np.asarray(units)[rows]
    return Arena("everything", chosen, chosen, chosen_units, chosen_units)


def pooled(arena: Arena, query: Representation, gallery: Representation, k: int = 100) -> Retrieval:
    """Measure over all sources together; relevant means the same label."""
    return Retrieval(rank(query, gallery, arena.relevance(), k), arena.queries, arena.units)


def within_sources(arena: Arena, query: Representation, gallery: Representation, k: int = 100) -> dict[str, Retrieval]:
    """Measure each source alone: its queries against its gallery images.

    Sources whose gallery has a single label are left out, because every ranking of them is perfect.
    """
    retrievals: dict[str, Retrieval] = {}
    of_query, of_gallery = arena.queries.column("source"), arena.gallery.column("source")
    labels = arena.gallery.column("label")
    for source in map(str, np.unique(of_query)):
        q, g = np.flatnonzero(of_query == source), np.flatnonzero(of_gallery == source)
        if len(np.unique(labels[g])) >= 2:
            retrievals[source] = pooled(arena.rows(q, g, source), query[q], gallery[g], k)
    return retrievals


def source_oracle(arena: Arena, k: int = 100) -> Retrieval:
    """Measure what knowing the source alone gives: all images of the query's source first, in random order."""
    away = arena.queries.column("source")[:, None] != arena.gallery.column("source")[None, :]
    counts = score_counts(away.astype(np.float32), arena.relevance())
    return Retrieval(score(counts, k), arena.queries, arena.units)


def across_sources(
    queries: Dataset,
    gallery: Dataset,
    query: Representation,
    represented: Representation,
    units: np.ndarray,
    classes: tuple[str, ...] | None = None,
    lenient: frozenset[str] = frozenset(),
    k: int = 100,
) -> dict[str, Retrieval]:
    """Measure query and gallery from different sources of one coarse class; other classes are distractors.

    Gallery images of the query's class from its own source, or from a related one, are left out of the ranking.

    Args:
        queries: Q images.
        gallery: N images; no unit is in both parts.
        query: Representation of the queries.
        represented: Representation of the gallery.
        units: Patient or case of each query, int64 [Q].
        classes: Coarse classes; by default all of the queries. Those without a second source are left out.
        lenient: Classes in which images kept apart take part and a related source counts as another one, because there
            is no better one.
        k: Cut-off of the metrics that have one.

    Returns:
        The outcome of each class.
    """
    retrievals: dict[str, Retrieval] = {}
    of_query = np.array([coarse_class(s) for s in queries])
    of_gallery = np.array([coarse_class(s) for s in gallery])
    if classes is None:
        classes = tuple(sorted({coarse_class(s) for s in queries if not s.is_ood}))
    for name in classes:
        open_to_all = name in lenient
        q = np.flatnonzero((of_query == name) & [open_to_all or not s.apart for s in queries])
        own_class = of_gallery == name
        g = np.flatnonzero([not s.apart or (open_to_all and c) for s, c in zip(gallery, own_class, strict=True)])
        families = _families([queries[int(row)] for row in q] + [gallery[int(row)] for row in g], not open_to_all)
        of_q = np.array([families[queries[int(row)].source] for row in q], dtype=np.int64)
        of_g = np.array([families[gallery[int(row)].source] for row in g], dtype=np.int64)
        of_g[~own_class[g]] = -1
        if not any((of_g[of_g >= 0] != family).any() for family in set(of_q.tolist())):
            continue
        relevance = Relevance.of(np.full(len(q), name), of_gallery[g], of_q, of_g)
        scores = rank(query[q], represented[g], relevance, k)
        retrievals[name] = Retrieval(scores, _rows(queries, q), np.asarray(units)[q])
    return retrievals


def sources_to_leave_out(data: Dataset) -> tuple[str, ...]:
    """Return the sources in which there is something to retrieve: two labels or more with at least two images each."""
    usable = (s for s in data if s.label and not s.is_ood and not s.label.endswith("_todo"))
    images = Counter((s.source, s.label) for s in usable)
    labels = Counter(source for (source, _), count in images.items() if count >= 2)
    return tuple(sorted(source for source, count in labels.items() if count >= 2))


def mean_over(retrievals: Mapping[str, Retrieval]) -> float:
    """Return the mean AP over parts (sources, classes), each counting alike; NaN when there is none."""
    return mean(np.array([mean(r.ap) for r in retrievals.values()]))


def mean(values: np.ndarray) -> float:
    """Return the mean of what is not NaN; NaN when nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _families(samples: list[Sample], with_kin: bool) -> dict[str, int]:
    """Return a number for each source; related ones share one where `with_kin`."""
    keys = {s.source: origin_of(s) if with_kin else s.source for s in samples}
    numbers = {key: n for n, key in enumerate(sorted(set(keys.values())))}
    return {source: numbers[key] for source, key in keys.items()}


def _rows(data: Dataset, rows: np.ndarray) -> Dataset:
    return Dataset(data.name, tuple(data[int(row)] for row in rows))
