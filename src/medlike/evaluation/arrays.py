"""Evaluate plain arrays, for codes that no bundle made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medlike.errors import InputError
from medlike.evaluation.alarms import constant_bits, over_centralisation
from medlike.evaluation.parts import part_figures, parted
from medlike.evaluation.provenance import program
from medlike.evaluation.representation import Representation
from medlike.metrics import Relevance, RetrievalScores, bootstrap_interval, recall_gain, score_codes
from medlike.types import JsonObject

METHOD = "codes"


def load_codes(path: Path) -> np.ndarray:
    """Read packed codes from a npy file: uint8 [N, bits / 8].

    Raises:
        InputError: The file is missing or holds anything else.
    """
    codes = _load(path)
    if codes.dtype != np.uint8 or codes.ndim != 2 or 0 in codes.shape:
        hint = "numpy.packbits(bits, axis=1) makes them from bits"
        if codes.dtype.kind == "f" and np.isnan(codes).any():
            hint = f"it holds {np.isnan(codes).sum()} NaN; " + hint
        raise InputError(
            f"{path} holds {codes.dtype} {list(codes.shape)}; packed codes are uint8 [images, bits / 8]: {hint}"
        )
    return codes


def load_labels(path: Path, images: int, what: str = "label") -> np.ndarray:
    """Read one label an image from a npy file: integers or strings [N]; bool [N, L] for several labels an image.

    Args:
        path: The file.
        images: N.
        what: Name of the labels in errors.

    Raises:
        InputError: The file is missing, holds another type or NaN, or another number than `images`.
    """
    labels = _load(path)
    if labels.dtype.kind == "f":
        if np.isnan(labels).any():
            raise InputError(f"{path} holds {int(np.isnan(labels).sum())} NaN; every image needs a {what}")
        if (labels != np.round(labels)).any():
            raise InputError(f"{path} holds fractions; {what}s are integers or strings")
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
        raise InputError(f"{path} holds {len(labels)} {what}s, but there are {images} codes; give one {what} a code")
    return labels


def load_units(path: Path, images: int) -> np.ndarray:
    """Read patient or case of each image from a npy file: integers or strings [N]; negative or empty where unknown.

    Raises:
        InputError: As for `load_labels`, or the file holds several units an image.
    """
    units = load_labels(path, images, "unit")
    if units.ndim != 1:
        raise InputError(f"{path} holds {list(units.shape)}; give one unit an image")
    return units


@dataclass(frozen=True)
class ArraysOutcome:
    """Hold what was measured on plain arrays.

    Attributes:
        figures: The metrics, fit for JSON.
        results: What results.json holds, built like that of bundles, with one method.
        scores: The metrics of each query.
        query: Codes of the queries.
        gallery: Codes of the gallery.
        labels: Of queries and of gallery images.
        units: Likewise, as integers; those of the gallery are -1 where not given.
    """

    figures: JsonObject
    results: JsonObject
    scores: RetrievalScores
    query: Representation
    gallery: Representation
    labels: tuple[np.ndarray, np.ndarray]
    units: tuple[np.ndarray, np.ndarray]


def evaluate_arrays(
    codes: Path,
    query_codes: Path,
    labels: Path,
    query_labels: Path,
    k: int = 100,
    query_units: Path | None = None,
    units: Path | None = None,
) -> ArraysOutcome:
    """Measure plain arrays; each argument is a npy file. The result states which units were given.

    Args:
        codes: Gallery codes, uint8 [N, bits / 8].
        query_codes: Query codes, uint8 [Q, bits / 8].
        labels: Gallery labels: integers or strings [N], or bool [N, L].
        query_labels: Query labels, likewise [Q] or [Q, L].
        k: Cut-off of the metrics that have one.
        query_units: Patient or case of each query [Q], for the intervals; without it every query is a unit of its own.
        units: The same of the gallery [N]: images of a query's own unit are left out of its ranking.

    Raises:
        InputError: An array is unfit, or arrays do not fit together.
    """
    gallery, queries = load_codes(codes), load_codes(query_codes)
    if gallery.shape[1] != queries.shape[1]:
        raise InputError(
            f"{codes} has {8 * gallery.shape[1]} bits and {query_codes} {8 * queries.shape[1]}; "
            "both must be of one length"
        )
    of_queries, of_gallery = load_labels(query_labels, len(queries)), load_labels(labels, len(gallery))
    if of_queries.ndim != of_gallery.ndim or of_queries.shape[1:] != of_gallery.shape[1:]:
        raise InputError(
            f"{query_labels} holds {list(of_queries.shape)} and {labels} {list(of_gallery.shape)}; "
            "both must be one label an image, or the same set of labels"
        )
    unit_numbers = _numbered(query_units, units, len(queries), len(gallery))
    scores = score_codes(queries, gallery, Relevance.of(of_queries, of_gallery, *unit_numbers), k)
    if scores.without_relevant == scores.queries:
        raise InputError("no query has a label that occurs in the gallery: nothing can be measured")
    resampled_by = "query" if query_units is None else "unit"
    figures = _figures(scores, of_queries, unit_numbers[0], gallery, resampled_by, left_out=units is not None)
    files = {
        "codes": codes, "query-codes": query_codes, "labels": labels, "query-labels": query_labels,
        "query-units": query_units, "units": units,
    }  # fmt: skip
    results = _results(figures, (gallery, queries, of_gallery, of_queries, *unit_numbers), files)
    pair = (Representation(codes=queries), Representation(codes=gallery))
    return ArraysOutcome(figures, results, scores, *pair, (of_queries, of_gallery), unit_numbers)


def _figures(
    scores: RetrievalScores,
    labels: np.ndarray,
    units: np.ndarray,
    codes: np.ndarray,
    resampled_by: str,
    left_out: bool,
) -> JsonObject:
    """Return the metrics as a dictionary fit for JSON."""
    ap = scores.values["map_expected"]
    interval = bootstrap_interval(ap, units)
    alarms = [a for a in (over_centralisation(scores), constant_bits(codes)) if a is not None]
    if labels.ndim == 1:
        by_label = parted(labels, ap, units)
    else:
        by_label = {str(n): (ap[has], units[has]) for n, has in enumerate(labels.T.astype(bool))}
    return {
        "queries": scores.queries,
        "queries_without_relevant": scores.without_relevant,
        "gallery": len(codes),
        "bits": codes.shape[1] * 8,
        "bytes_per_image": codes.shape[1],
        "k": scores.k,
        **scores.means(),
        "map_interval": [interval.low, interval.high],
        "map_interval_resampled_by": resampled_by,
        "units": interval.units,
        "own_unit_left_out": left_out,
        **part_figures("by_label", by_label),
        "precision_within_radius": _column_means(scores.precision_within),
        "recall_within_radius": _column_means(scores.recall_within),
        "recall_gain": recall_gain(scores.recall_within).tolist(),
        "precision_recall_curve": _column_means(scores.curve),
        "alarms": [{"name": a.name, "message": a.message} for a in alarms],
    }


def _results(figures: JsonObject, arrays: tuple[np.ndarray, ...], files: Mapping[str, Path | None]) -> JsonObject:
    """Return what results.json holds.

    Args:
        figures: The metrics.
        arrays: All that was measured, for the digest.
        files: Where each array was, by option.
    """
    named = " ".join(f"--{option} {file.name}" for option, file in files.items() if file is not None)
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return {
        **program(),
        "command": f"medlike evaluate {named} --k {figures['k']} --out DIR",
        "data": {
            "name": "plain arrays",
            "images": figures["queries"] + figures["gallery"],
            "digest": digest.hexdigest(),
        },
        "split": None,
        "protocol": "plain arrays",
        "units": _units_said(figures["map_interval_resampled_by"] == "query", figures["own_unit_left_out"]),
        "settings": {"k": figures["k"]},
        "queries": figures["queries"],
        "gallery": figures["gallery"],
        "labels": sorted(figures["by_label"]),
        "methods": {METHOD: {"kind": "codes", **{k: v for k, v in figures.items() if k != "alarms"}}},
        "outliers": {},
        "comparisons": [],
        "alarms": [{"method": METHOD, **alarm} for alarm in figures["alarms"]],
    }


def _units_said(by_query: bool, left_out: bool) -> str:
    """Return what the intervals rest on and which images are left out, for the page."""
    if by_query:
        basis = (
            "No patients were given (--query-units): each image is a unit of its own. Where several queries show one "
            "patient, the intervals are too narrow"
        )
    else:
        basis = "Units are those of --query-units"
    if left_out:
        return f"{basis}; gallery images of a query's own unit (--units) are left out of its ranking."
    return f"{basis}. Gallery images of a query's own patient are not left out, because --units was not given."


def _numbered(
    query_units: Path | None, units: Path | None, queries: int, gallery: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the units of queries and gallery as integers, equal where they are the same; -1 where not given."""
    if query_units is None:
        if units is not None:
            raise InputError("--units needs --query-units: a query's own unit can be left out only where it is known")
        return np.arange(queries), np.full(gallery, -1)
    own = load_units(query_units, queries)
    if units is None:
        return _numbers(own), np.full(gallery, -1)
    others = load_units(units, gallery)
    if (own.dtype.kind in "US") != (others.dtype.kind in "US"):
        raise InputError(
            f"{query_units} holds {own.dtype} and {units} {others.dtype}; name units alike, both by strings or both "
            "by integers"
        )
    both = _numbers(np.concatenate([own, others]))
    return both[:queries], both[queries:]


def _numbers(units: np.ndarray) -> np.ndarray:
    """Return a number for each image's unit; images whose unit is unknown (negative or empty) get one each."""
    _, numbers = np.unique(units, return_inverse=True)
    unknown = units == "" if units.dtype.kind in "US" else units < 0
    numbers[unknown] = len(units) + np.arange(unknown.sum())
    return numbers


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
