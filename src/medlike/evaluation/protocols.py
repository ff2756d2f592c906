"""Who is query, who is gallery, who is relevant: the retrieval protocols.

All figures are per query first, so that intervals and paired tests can be drawn by unit afterwards. A gallery
image of the query's own unit (patient, near-duplicate) never takes part in its ranking.
"""

from __future__ import annotations

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
    """One protocol's outcome for one method. units: int64 [Q], of the queries."""

    scores: RetrievalScores
    queries: Dataset
    units: np.ndarray

    @property
    def ap(self) -> np.ndarray:
        """AP of every query, expected over ties: float64 [Q], NaN where nothing is relevant."""
        return self.scores.values["map_expected"]

    def by(self, column: str) -> Parts:
        """AP and units of the queries of each value of a field (label, source, modality)."""
        return parted(self.queries.column(column), self.ap, self.units)


@dataclass(frozen=True)
class Arena:
    """Queries and gallery of one protocol, with their units; representations follow the same rows."""

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
        """Same label; pairs of one unit are left out."""
        return Relevance.of(self.queries.column("label"), self.gallery.column("label"), self.units, self.gallery_units)

    def rows(self, queries: np.ndarray, gallery: np.ndarray, name: str) -> Arena:
        """A smaller arena of some queries and some gallery images."""
        return Arena(
            name,
            _rows(self.queries, queries),
            _rows(self.gallery, gallery),
            self.units[queries],
            self.gallery_units[gallery],
        )


def headline_arena(
    data: Dataset, split: Split, train_in_gallery: bool = False, labels: tuple[str, ...] | None = None
) -> Arena:
    """Query part against gallery part over the headline labels.

    labels: which they are; by default those of `data`, by their count in all of it and not in a part.
    train_in_gallery: the protocol of most papers, where the training images can be found as well; easier.
    """
    wanted = set(headline_labels(data) if labels is None else labels)
    if not wanted:
        raise DatasetError(f"{data.name} has no label with enough images; lower --minimum, or give more images")
    chosen = data.where(lambda s: s.label in wanted and not s.is_ood and not s.apart)
    queries = split.part(chosen, "query")
    gallery = split.part(chosen, *(("gallery", "train") if train_in_gallery else ("gallery",)))
    name = "train inside the gallery" if train_in_gallery else "headline"
    return Arena(name, queries, gallery, split.units(queries), split.units(gallery))


def everything_arena(data: Dataset, units: np.ndarray) -> Arena:
    """Every labelled image is a query against all others: for collections that were never trained on."""
    keep = np.flatnonzero([bool(s.label) and not s.is_ood for s in data])
    chosen, own = _rows(data, keep), np.asarray(units)[keep]
    return Arena("everything", chosen, chosen, own, own)


def pooled(arena: Arena, query: Representation, gallery: Representation, k: int = 100) -> Retrieval:
    """Relevant = same label, over all sources together."""
    return Retrieval(rank(query, gallery, arena.relevance(), k), arena.queries, arena.units)


def within_sources(arena: Arena, query: Representation, gallery: Representation, k: int = 100) -> dict[str, Retrieval]:
    """Each source alone: its queries against its gallery images.

    Sources whose gallery has a single label are left out, because every ranking of them is perfect.
    """
    found: dict[str, Retrieval] = {}
    of_query, of_gallery = arena.queries.column("source"), arena.gallery.column("source")
    labels = arena.gallery.column("label")
    for source in map(str, np.unique(of_query)):
        q, g = np.flatnonzero(of_query == source), np.flatnonzero(of_gallery == source)
        if len(np.unique(labels[g])) >= 2:
            found[source] = pooled(arena.rows(q, g, source), query[q], gallery[g], k)
    return found


def source_oracle(arena: Arena, k: int = 100) -> Retrieval:
    """What knowing the source alone earns: all images of the query's source first, in random order."""
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
    """Query and gallery from different sources of one coarse class; images of other classes are distractors.

    queries, gallery: parts of a split, so that no unit is in both; query, represented: their representations.
    Gallery images of the query's class from its own source, or from kin of it, are left out of the ranking.
    classes: the coarse classes; by default all of the queries. Those without a second source are left out. lenient:
    classes in which images kept apart take part and kin counts as another source, for want of better ones.
    """
    found: dict[str, Retrieval] = {}
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
        own = np.array([families[queries[int(row)].source] for row in q], dtype=np.int64)
        other = np.array([families[gallery[int(row)].source] for row in g], dtype=np.int64)
        other[~own_class[g]] = -1
        if not any((other[other >= 0] != family).any() for family in set(own.tolist())):
            continue
        relevance = Relevance.of(np.full(len(q), name), of_gallery[g], own, other)
        scores = rank(query[q], represented[g], relevance, k)
        found[name] = Retrieval(scores, _rows(queries, q), np.asarray(units)[q])
    return found


def sources_to_leave_out(data: Dataset) -> tuple[str, ...]:
    """Sources in which there is something to retrieve: two labels or more with at least two images each."""
    counts: dict[str, dict[str, int]] = {}
    for s in data:
        if s.label and not s.is_ood and not s.label.endswith("_todo"):
            of_source = counts.setdefault(s.source, {})
            of_source[s.label] = of_source.get(s.label, 0) + 1
    return tuple(sorted(s for s, labels in counts.items() if sum(n >= 2 for n in labels.values()) >= 2))


def mean_over(retrievals: Mapping[str, Retrieval]) -> float:
    """Mean over parts (sources, classes), each counting alike; NaN when there is none."""
    return mean(np.array([mean(r.ap) for r in retrievals.values()]))


def mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN when nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _families(samples: list[Sample], with_kin: bool) -> dict[str, int]:
    """A number for each source; kin share one where `with_kin`."""
    keys = {s.source: origin_of(s) if with_kin else s.source for s in samples}
    numbers = {key: n for n, key in enumerate(sorted(set(keys.values())))}
    return {source: numbers[key] for source, key in keys.items()}


def _rows(data: Dataset, rows: np.ndarray) -> Dataset:
    return Dataset(data.name, tuple(data[int(row)] for row in rows))
