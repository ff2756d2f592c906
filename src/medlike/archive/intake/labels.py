"""Fits with labels: which labels of an archive can be used, and whether they order its images better.

A label that comes from one source may tell sources apart and not what is seen, so each label used is of at least two.
Patients are held out in turn: their images are queries, the others are fitted to and searched, in the default order.
The labels stay only if they find more of the same label than a fit without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medlike import strict_json
from medlike.archive.index.known_fields import known_fields
from medlike.archive.storage.database import EACH, each, require_sound
from medlike.archive.storage.fits import LabelTrial
from medlike.archive.storage.rows import TEXT_COLUMNS
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit, Labelled
from medlike.codes.reranking import by_neighbours
from medlike.errors import QueryError, UnknownField
from medlike.types import F64, I8, I64, Mask

NO_FIELD = "none"  # for a fit without labels
LEAST_PATIENTS = 20  # of a label
LEAST_OF_A_SOURCE = 5  # of these, of each of at least two sources
FOLDS = 3
MOST_IMAGES = 4000  # fitted to and searched in the trial
MOST_QUERIES = 400
LEAST_GAIN = 0.01  # mean average precision; below, labels change the order and not what is found
#: Fields that say who or where, not what.
_WHO = ("patient", "study", "series", "source", "manufacturer", "model")
_PAGE = 1000  # rows read at a time

#: Makes a fit of some rows of a sample.
Learns = Callable[[Mask, Labelled | None], Fit]


class FieldValues(NamedTuple):
    """A field of the images of a sample.

    Attributes:
        values: object [S], the text in the field, None without.
        sources: object [S], the source, else the scanner; None if neither is known.
    """

    values: NDArray[np.object_]
    sources: NDArray[np.object_]


class UsedLabels(NamedTuple):
    """Labels that a fit can use.

    Attributes:
        labelled: By row of the sample.
        kinds: int64 [S], a number for every label, also of those that are not used; -1 without one.
        names: Labels used, sorted.
        of_one_source: Labels of enough patients that one source alone has.
        rare: How many labels have too few patients.
    """

    labelled: Labelled
    kinds: I64
    names: list[str]
    of_one_source: list[str]
    rare: int


def read(store: Store, field: str, rows: I64) -> FieldValues:
    """Return a field of images, and where they come from.

    Args:
        store: The archive's store.
        field: A field that holds text.
        rows: int64 [S], the store's rows.

    Raises:
        UnknownField: No image has text in the field.
        QueryError: The field says who an image is of, or where it is from.
        ArchiveError: The row of an image is damaged.
    """
    if field in _WHO:
        raise QueryError(f"{field} says who or where an image is from, not what it shows: give a field such as label")
    in_column = field in TEXT_COLUMNS
    sql = (
        f"SELECT row, {field if in_column else 'metadata'}, source, manufacturer, model, {store.sound('images')} "
        f"FROM images WHERE row IN {EACH}"
    )
    known: dict[int, tuple[object, object]] = {}
    for start in range(0, len(rows), _PAGE):
        page = each(rows[start : start + _PAGE].tolist())
        for row, stored, source, manufacturer, model, sound in store.query(sql, (page,)):
            require_sound(store.path, "images", row, sound)
            value = stored if in_column else strict_json.loads(stored).get(field)
            scanner = " ".join(str(part) for part in (manufacturer, model) if part)
            known[row] = (value if isinstance(value, str) and value else None, source or scanner or None)
    values, sources = np.empty(len(rows), object), np.empty(len(rows), object)
    for at, row in enumerate(rows.tolist()):
        values[at], sources[at] = known.get(row, (None, None))
    if not any(value is not None for value in values):
        names = ", ".join(name for name in known_fields(store, ()) if name not in _WHO)
        raise UnknownField(f"no image has text in the field {field}. Fields of the images: {names or 'none'}")
    return FieldValues(values, sources)


def usable(field: FieldValues, owners: I64) -> UsedLabels:
    """Return the labels that have enough patients, of at least two sources.

    Args:
        field: The labels of a sample.
        owners: int64 [S], a number for each patient.
    """
    names, kinds = _numbered(field.values)
    _, sources = _numbered(field.sources)
    used: list[int] = []
    single: list[int] = []
    rare = 0
    for number in range(len(names)):
        mask = kinds == number
        if len(np.unique(owners[mask])) < LEAST_PATIENTS:
            rare += 1
            continue
        pairs = np.unique(np.stack([sources[mask], owners[mask]]), axis=1)[0]
        patients = np.bincount(pairs[pairs >= 0], minlength=1)
        (used if np.count_nonzero(patients >= LEAST_OF_A_SOURCE) >= 2 else single).append(number)
    labels = np.where(np.isin(kinds, used), kinds, -1)
    # Their numbers follow each other.
    labels = np.where(labels >= 0, np.searchsorted(np.array(used, np.int64), labels), -1)
    return UsedLabels(
        Labelled(labels, sources), kinds, [names[at] for at in used], [names[at] for at in single], rare
    )


def refusal(field: str, used: UsedLabels) -> str | None:
    """Return why labels cannot be used, None if they can."""
    if len(used.names) >= 2:
        return None
    if used.of_one_source:
        names = ", ".join(used.of_one_source[:10]) + (", ..." if len(used.of_one_source) > 10 else "")
        return (
            f"{field} gives away the source: fewer than two labels have {LEAST_OF_A_SOURCE} patients of each of two "
            f"sources (the field source, else the scanner). Of one source or none: {names}"
        )
    return f"fewer than two labels of {field} have {LEAST_PATIENTS} patients: a fit with labels needs two that have"


def trial(field: str, used: UsedLabels, content: I8, owners: I64, learns: Learns) -> LabelTrial:
    """Return whether labels help queries of patients that a fit did not see.

    Args:
        field: Where the labels are.
        used: The labels.
        content: int8 [S, D], the content vectors of a sample.
        owners: int64 [S], a number for each patient.
        learns: Makes a fit of those rows of the sample that a mask chooses, with labels or without.
    """
    labels = used.labelled.labels
    random = np.random.default_rng(0)
    in_trial = np.zeros(len(labels), bool)
    in_trial[random.permutation(np.flatnonzero(used.kinds >= 0))[:MOST_IMAGES]] = True
    fold_of = random.integers(FOLDS, size=int(owners.max()) + 1)[owners]
    chosen = random.permutation(np.flatnonzero(in_trial & (labels >= 0)))[:MOST_QUERIES]
    found: dict[bool, list[F64]] = {False: [], True: []}
    for fold in range(FOLDS):
        queries, gallery = chosen[fold_of[chosen] == fold], in_trial & (fold_of != fold)
        for with_labels, scores in found.items():
            fit = learns(gallery, used.labelled if with_labels else None)
            codes, vectors = fit.encode(content[gallery])
            query_codes, query_vectors = fit.encode(content[queries])
            kinds = used.kinds[gallery]
            for at, query in enumerate(queries.tolist()):
                order = by_neighbours(query_codes[at], query_vectors[at], codes, vectors, fit.invariant)
                scores.append(_scores(kinds[order] == used.kinds[query]))
    of = np.concatenate([owners[chosen[fold_of[chosen] == fold]] for fold in range(FOLDS)])
    (gain, low, high), (_, _, best) = (
        _by_patient(np.array(found[True])[:, at] - np.array(found[False])[:, at], of) for at in range(2)
    )
    plain, fitted = (np.nanmean(np.array(found[with_labels]), axis=0).tolist() for with_labels in (False, True))
    # Better in the whole list, and not certainly worse among the first ten.
    reason = ""
    if gain < LEAST_GAIN or low <= 0:
        reason = "patients held out are not found better with them"
    elif best < 0:
        reason = "the first ten images found hold fewer of the same label with them"
    return LabelTrial(
        field=field,
        used=not reason,
        labels=len(used.names),
        patients=len(np.unique(owners[labels >= 0])),
        queries=len(of),
        map_without=plain[0],
        map_with=fitted[0],
        precision_without=plain[1],
        precision_with=fitted[1],
        gain=(gain, low, high),
        left_out=tuple(used.of_one_source),
        reason=reason,
    )


def _scores(relevant: Mask) -> F64:
    """Return average precision and precision among the first ten; NaN without a relevant image."""
    places = np.flatnonzero(relevant)
    if not len(places):
        return np.full(2, np.nan)
    return np.array([(np.arange(1, len(places) + 1) / (places + 1)).mean(), relevant[:10].mean()])


def _by_patient(gains: F64, owners: I64) -> tuple[float, float, float]:
    """Return the mean of gains over patients, and its 95 % interval."""
    known = ~np.isnan(gains)
    _, owner = np.unique(owners[known], return_inverse=True)
    if len(owner) < 2 or owner.max() < 1:
        return 0.0, 0.0, 0.0
    means = np.bincount(owner, gains[known]) / np.bincount(owner)
    mean, error = float(means.mean()), 1.96 * float(means.std(ddof=1)) / len(means) ** 0.5
    return mean, mean - error, mean + error


def _numbered(values: NDArray[np.object_]) -> tuple[list[str], I64]:
    """Return the texts that occur, sorted, and the number of each row's, -1 for None."""
    names = sorted({str(value) for value in values if value is not None})
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([-1 if value is None else numbers[value] for value in values], np.int64)
