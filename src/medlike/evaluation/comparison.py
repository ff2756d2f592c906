"""Two bundles on one's own images: what each retrieves, and whether they differ."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from medlike.bundle import Bundle
from medlike.datasets import Dataset, find_units, hash_samples
from medlike.datasets.labels import can_be_headline
from medlike.errors import DatasetError
from medlike.evaluation.encodings import Encoded, encode_dataset
from medlike.evaluation.protocols import everything_arena, pooled
from medlike.evaluation.provenance import program
from medlike.metrics import bootstrap_interval, holm, paired_permutation
from medlike.types import JsonObject, Progress

#: Metrics by what they are called: mAP over the full list, and precision at 1 and 10, ties in expectation.
METRICS = {"mAP": "map_expected", "P@1": "precision_at_1", "P@10": "precision_at_10"}


def compare_bundles(first: Bundle, second: Bundle, data: Dataset, say: Progress[str] = lambda line: None) -> JsonObject:
    """Measure two bundles on labelled images, every image being a query against those of other patients.

    Args:
        first: The baseline.
        second: The other bundle.
        data: The images; what has no label, or is out-of-distribution, takes no part.
        say: Takes lines of progress.

    Returns:
        Facts for JSON. "rows" has one for codes and content vectors and each metric: the mean of both bundles with 95 %
        intervals by unit (patient, case or near-duplicates), their difference, and the p-value of a paired permutation
        test by unit, corrected by Holm over all rows.

    Raises:
        DatasetError: Fewer than two labels have images of two units.
    """
    chosen = data.where(can_be_headline)
    if len(set(chosen.column("label").tolist())) < 2:
        raise DatasetError(f"{data.name} has fewer than two labels; a comparison needs images with labels")
    units = find_units(chosen, hash_samples(chosen))
    arena = everything_arena(chosen, units)
    encoded: list[Encoded] = []
    with tempfile.TemporaryDirectory() as folder:
        for bundle in (first, second):
            say(f"encoding {len(chosen)} images with {bundle.name}")
            encoded.append(encode_dataset(bundle, chosen, Path(folder)))
    rows: list[JsonObject] = []
    queries = 0
    for kind in ("codes", "content"):
        parts = [each.codes() if kind == "codes" else each.features() for each in encoded]
        scores = [pooled(arena, part, part).scores for part in parts]
        queries = scores[0].queries - scores[0].without_relevant
        if not queries:
            raise DatasetError(f"no label of {data.name} has images of two patients; give more images")
        for name, metric in METRICS.items():
            values = [np.where(np.isnan(s.values["map_expected"]), np.nan, s.values[metric]) for s in scores]
            means = [bootstrap_interval(value, units) for value in values]
            difference = bootstrap_interval(values[1] - values[0], units)
            rows.append({
                "of": kind,
                "metric": name,
                "first": means[0].mean,
                "first_interval": [means[0].low, means[0].high],
                "second": means[1].mean,
                "second_interval": [means[1].low, means[1].high],
                "difference": difference.mean,
                "difference_interval": [difference.low, difference.high],
                "p": paired_permutation(values[1], values[0], units),
            })  # fmt: skip
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return {
        **program(),
        "first": _facts(first, encoded[0]),
        "second": _facts(second, encoded[1]),
        "data": {"name": data.name, "images": len(chosen), "labels": len(set(chosen.column("label").tolist()))},
        "queries": queries,
        "units": len(np.unique(units)),
        "rows": rows,
    }


def _facts(bundle: Bundle, encoded: Encoded) -> JsonObject:
    return {
        "bundle": bundle.name, "digest": bundle.digest, "bits": bundle.bits, "content_dim": bundle.content_dim,
        "bytes": bundle.bytes, "encode_ms_per_image": 1000 * encoded.seconds,
    }  # fmt: skip
