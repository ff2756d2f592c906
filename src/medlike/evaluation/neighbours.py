"""The nearest gallery images of each query, for contact sheets and neighbour confusion."""

from __future__ import annotations

import numpy as np

from medlike.codes.hamming import distances
from medlike.evaluation.protocols import Arena
from medlike.evaluation.representation import Representation


def distance_row(query: Representation, gallery: Representation, row: int) -> np.ndarray:
    """Return the distance of one query to the whole gallery, lower is nearer: float64 [N].

    Codes have Hamming distance in bits, features minus their cosine.
    """
    if query.codes is not None and gallery.codes is not None:
        return distances(gallery.codes, query.codes[row]).astype(np.float64)
    assert query.features is not None and gallery.features is not None
    own, others = query.features[row].astype(np.float64), gallery.features.astype(np.float64)
    norms = np.linalg.norm(others, axis=1) * np.linalg.norm(own)
    return -(others @ own) / np.maximum(norms, 1e-12)


def nearest_rows(
    arena: Arena,
    query: Representation,
    gallery: Representation,
    row: int,
    count: int,
    content: tuple[Representation, Representation] | None = None,
) -> np.ndarray:
    """Return the gallery rows of the images nearest to a query, nearest first: int64.

    Images of the query's own unit are left out.

    Args:
        arena: Queries and gallery.
        query: Representation of the queries.
        gallery: Representation of the gallery.
        row: The query's.
        count: How many rows to return.
        content: Features of queries and gallery that put equal distances in order, as the archive does; without them
            ties come in row order.
    """
    away = distance_row(query, gallery, row)
    second = np.zeros(len(away)) if content is None else distance_row(*content, row)
    order = np.lexsort((second, away))
    return np.asarray(order[arena.gallery_units[order] != arena.units[row]][:count])


def confusion(
    query: Representation,
    gallery: Representation,
    labels_of: tuple[np.ndarray, np.ndarray],
    units: tuple[np.ndarray, np.ndarray],
    count: int = 10,
) -> tuple[list[str], np.ndarray]:
    """Return the labels, and for each query label the share of each label among the nearest images: float [L, L].

    Expected over tie order: of a tie group that only partly fits, every image counts by the chance that it is
    in. Otherwise images that share one code would be counted in the order in which they are stored.

    Args:
        query: Representation of the queries.
        gallery: Representation of the gallery.
        labels_of: Labels of the queries [Q] and of the gallery [N].
        units: Units of the queries [Q] and of the gallery [N]; images of the query's own unit are left out.
        count: How many nearest images count.
    """
    labels, place = np.unique(np.concatenate(labels_of), return_inverse=True)
    of_query, of_gallery = place[: len(query)], place[len(query) :]
    shares = np.zeros((len(labels), len(labels)))
    for row, own in enumerate(of_query):
        away = distance_row(query, gallery, row)
        away[units[1] == units[0][row]] = np.inf
        values, group, size = np.unique(away, return_inverse=True, return_counts=True)
        before = np.cumsum(size) - size
        chance = np.clip(count - before, 0, size) / size
        chance[np.isinf(values)] = 0
        shares[own] += np.bincount(of_gallery, weights=chance[group], minlength=len(labels))
    return labels.astype(str).tolist(), shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
