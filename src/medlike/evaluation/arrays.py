"""Evaluating plain arrays, for people who bring their own codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medlike.errors import InputError
from medlike.evaluation.alarms import constant_bits, over_centralisation
from medlike.metrics import Interval, Relevance, RetrievalScores, bootstrap_interval, recall_gain, score_codes


def load_codes(path: Path) -> np.ndarray:
    """Packed codes from a npy file: uint8 [N, bits / 8]. Raises InputError for anything else."""
    codes = _load(path)
    if codes.dtype != np.uint8 or codes.ndim != 2 or 0 in codes.shape:
        hint = "numpy.packbits(bits, axis=1) makes them from bits"
        if codes.dtype.kind == "f" and np.isnan(codes).any():
            hint = f"it holds {np.isnan(codes).sum()} NaN; " + hint
        raise InputError(
            f"{path} holds {codes.dtype} {list(codes.shape)}; packed codes are uint8 [images, bits / 8]: {hint}"
        )
    return codes


def load_labels(path: Path, images: int) -> np.ndarray:
    """One label an image from a npy file: integers or strings [N]; bool [N, L] for several labels an image.

    Raises InputError for other types, NaN, or another number than `images`.
    """
    labels = _load(path)
    if labels.dtype.kind == "f":
        if np.isnan(labels).any():
            raise InputError(f"{path} holds {int(np.isnan(labels).sum())} NaN; every image needs a label")
        if (labels != np.round(labels)).any():
            raise InputError(f"{path} holds fractions; labels are integers or strings")
        labels = labels.astype(np.int64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    several = labels.ndim == 2 and labels.dtype.kind in "iub" and set(np.unique(labels).tolist()) <= {0, 1}
    if not several and (labels.ndim != 1 or labels.dtype.kind not in "iubUS"):
        raise InputError(
            f"{path} holds {labels.dtype} {list(labels.shape)}; give integers or strings [images], or bool "
            "[images, labels] for several labels an image"
        )
    if len(labels) != images:
        raise InputError(f"{path} holds {len(labels)} labels, but there are {images} codes; give one label a code")
    return labels


def evaluate_arrays(
    codes: Path, query_codes: Path, labels: Path, query_labels: Path, k: int = 100, units: Path | None = None
) -> tuple[dict[str, Any], RetrievalScores]:
    """The metrics of plain arrays: a dictionary for JSON, and the scores behind it.

    units: npy [Q], patient or case of each query; without it every query counts as independent, and the
    result says so. Raises InputError for arrays that do not fit together.
    """
    gallery, queries = load_codes(codes), load_codes(query_codes)
    if gallery.shape[1] != queries.shape[1]:
        raise InputError(
            f"{codes} has {8 * gallery.shape[1]} bits and {query_codes} {8 * queries.shape[1]}; "
            "both must be of one length"
        )
    wanted, given = load_labels(query_labels, len(queries)), load_labels(labels, len(gallery))
    if wanted.ndim != given.ndim or wanted.shape[1:] != given.shape[1:]:
        raise InputError(
            f"{query_labels} holds {list(wanted.shape)} and {labels} {list(given.shape)}; "
            "both must be one label an image, or the same set of labels"
        )
    scores = score_codes(queries, gallery, Relevance.of(wanted, given), k)
    if scores.without_relevant == scores.queries:
        raise InputError("no query has a label that occurs in the gallery: nothing can be measured")
    by_query = units is None
    of_unit = np.arange(len(queries)) if units is None else load_labels(units, len(queries))
    interval = bootstrap_interval(scores.values["map_expected"], of_unit)
    return summary(scores, queries.shape[1] * 8, len(gallery), interval, by_query, gallery), scores


def summary(
    scores: RetrievalScores, bits: int, gallery: int, interval: Interval, by_query: bool, codes: np.ndarray
) -> dict[str, Any]:
    """The metrics as a dictionary fit for JSON."""
    alarms = [a for a in (over_centralisation(scores), constant_bits(codes)) if a is not None]
    return {
        "queries": scores.queries,
        "queries_without_relevant": scores.without_relevant,
        "gallery": gallery,
        "bits": bits,
        "k": scores.k,
        **scores.means(),
        "map_interval": [interval.low, interval.high],
        "map_interval_resampled_by": "query" if by_query else "unit",
        "precision_within_radius": _column_means(scores.precision_within),
        "recall_within_radius": _column_means(scores.recall_within),
        "recall_gain": recall_gain(scores.recall_within).tolist(),
        "precision_recall_curve": _column_means(scores.curve),
        "alarms": [{"name": a.name, "message": a.message} for a in alarms],
    }


def _column_means(values: np.ndarray) -> list[float]:
    return np.nanmean(values, axis=0).tolist()


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a npy file (numpy.save)")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "pickle" in str(error).lower():
            raise InputError(
                f"{path} is no plain npy array; save strings as numpy.array(labels, dtype=str), codes uint8"
            ) from error
        raise InputError(f"{path} cannot be read as npy: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of arrays (npz); save one array with numpy.save")
    return array
