"""One method under every retrieval protocol: figures for JSON, and per-query values for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medlike.evaluation.parts import part_figures
from medlike.evaluation.protocols import Arena, Retrieval, mean_over, pooled, source_oracle, within_sources
from medlike.evaluation.representation import Representation
from medlike.metrics import bootstrap_interval, holm, paired_permutation, recall_gain
from medlike.types import Json, JsonObject


@dataclass(frozen=True)
class Assessment:
    """Hold what was measured of one method.

    Attributes:
        name: Of the method.
        kind: bundle, ceiling or floor.
        pooled: Over all sources together.
        within: Of each source alone.
        figures: Everything, fit for JSON.
        alarms: Name and message of each.
    """

    name: str
    kind: str
    pooled: Retrieval
    within: Mapping[str, Retrieval]
    figures: JsonObject
    alarms: list[dict[str, str]] = field(default_factory=list)

    def within_ap(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the average precision within the query's own source, and units, over all queries of all sources."""
        if not self.within:
            return np.zeros(0), np.zeros(0, np.int64)
        parts = list(self.within.values())
        return np.concatenate([r.ap for r in parts]), np.concatenate([r.units for r in parts])


def assess(
    name: str,
    kind: str,
    arena: Arena,
    query: Representation,
    gallery: Representation,
    inside: tuple[Arena, Representation] | None = None,
    k: int = 100,
    facts: Mapping[str, Json] | None = None,
) -> Assessment:
    """Measure one method.

    Args:
        name: Of the method.
        kind: bundle, ceiling or floor.
        arena: Queries and gallery.
        query: Representation of the queries.
        gallery: Representation of the gallery.
        inside: The arena with training images in the gallery, and the representation of that gallery.
        k: Cut-off of the metrics that have one.
        facts: More figures to report.
    """
    whole = pooled(arena, query, gallery, k)
    within = within_sources(arena, query, gallery, k)
    figures: JsonObject = {
        "kind": kind,
        "bits": query.bits,
        "bytes_per_image": query.bytes_per_image,
        **dict(facts or {}),
        **retrieval_figures(whole),
        **part_figures("by_label", whole.by("label")),
        **part_figures("by_modality", whole.by("modality")),
        **part_figures("by_source", whole.by("source")),
        "within_source": {s: retrieval_summary(r) for s, r in within.items()},
        "map_within_source": mean_over(within),
    }
    result = Assessment(name, kind, whole, within, figures)
    ap, units = result.within_ap()
    if len(ap):
        interval = bootstrap_interval(ap, units)
        figures["map_within_source_by_query"] = interval.mean
        figures["map_within_source_interval"] = [interval.low, interval.high]
    if inside is not None:
        figures["train_in_gallery"] = retrieval_summary(pooled(inside[0], query, inside[1], k))
    return result


def assess_oracle(arena: Arena, k: int = 100) -> JsonObject:
    """Return the figures of the oracle that knows the source of each image and nothing else."""
    return retrieval_summary(source_oracle(arena, k))


def retrieval_figures(outcome: Retrieval) -> JsonObject:
    """Return everything about one retrieval, curves included."""
    scores = outcome.scores
    figures: JsonObject = {
        **retrieval_summary(outcome),
        **scores.means(),
        "precision_recall_curve": _means(scores.curve),
    }
    if scores.recall_within.shape[1]:
        figures["precision_within_radius"] = _means(scores.precision_within)
        figures["recall_within_radius"] = _means(scores.recall_within)
        figures["recall_gain"] = recall_gain(scores.recall_within).tolist()
    return figures


def retrieval_summary(outcome: Retrieval) -> JsonObject:
    """Return mAP with its interval by unit, and how many queries it rests on."""
    interval = bootstrap_interval(outcome.ap, outcome.units)
    return {
        "queries": outcome.scores.queries,
        "queries_without_relevant": outcome.scores.without_relevant,
        "units": interval.units,
        "map_expected": interval.mean,
        "map_interval": [interval.low, interval.high],
        "map_at_k": outcome.scores.mean("map_at_k"),
        "map_at_k_hits": outcome.scores.mean("map_at_k_hits"),
    }


def compare(methods: Sequence[Assessment], baseline: Assessment) -> list[JsonObject]:
    """Compare every method with the baseline, pooled and within source, paired by query and tested by unit.

    Returns:
        One row a method and protocol; Holm's correction runs over all of them.
    """
    rows: list[JsonObject] = []
    for method in methods:
        if method is baseline:
            continue
        within, units = method.within_ap()
        pairs = [("pooled", method.pooled.ap, baseline.pooled.ap, baseline.pooled.units)]
        if len(within):
            pairs.append(("within source", within, baseline.within_ap()[0], units))
        for protocol, values, reference, of_unit in pairs:
            difference = bootstrap_interval(values - reference, of_unit)
            rows.append({
                "method": method.name,
                "baseline": baseline.name,
                "protocol": protocol,
                "difference": difference.mean,
                "interval": [difference.low, difference.high],
                "p": paired_permutation(values, reference, of_unit),
            })  # fmt: skip
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows


def _means(values: np.ndarray) -> list[float]:
    counted = values[~np.isnan(values).any(axis=1)]
    return counted.mean(axis=0).tolist() if len(counted) else []
