"""The orders of the answer as functions of whole arrays, many queries at a time, as studies compare them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medlike.codes.reranking import MEMBERS, SHORTLIST_IMAGES, Method, original_first, reranked
from medlike.types import F32, I8, I16, I64, U8

#: Distances of Q queries to N gallery images: float32 [Q, N]; equal ones are in no order.
Distances = Callable[[I64, I64], F32]


def hamming(codes: U8) -> Distances:
    """Return differing bits of codes uint8 [M, K / 8]."""
    bits = np.unpackbits(codes, axis=1).astype(np.float32)

    def distances(queries: I64, gallery: I64) -> F32:
        a, b = bits[queries], bits[gallery]
        return np.rint(a.sum(axis=1)[:, None] + b.sum(axis=1) - 2 * a @ b.T).astype(np.float32)

    return distances


def cosine(unit: F32) -> Distances:
    """Return negative cosines of vectors of unit length, float32 [M, D]."""
    return lambda queries, gallery: -(unit[queries] @ unit[gallery].T)


def tied(first: Distances, second: Distances) -> Distances:
    """Return places in the order of the first; what is equal there by the second, whose distances lie in [-1, 1]."""
    return lambda q, g: places(4.0 * first(q, g).astype(np.float64) + second(q, g))


def shortlist(first: Distances, second: Distances) -> Distances:
    """Return places in the order "shortlist": the nearest by the first, ties by the second, then by the second."""

    def distances(queries: I64, gallery: I64) -> F32:
        nearest, alike = tied(first, second)(queries, gallery), second(queries, gallery)
        return places(np.where(nearest < SHORTLIST_IMAGES, alike, 2.0 + nearest))

    return distances


def neighbours(
    first: Distances, vectors: I8, method: Method = "expansion", invariant: I16 | None = None
) -> Distances:
    """Return places in the order "neighbours" of a shortlist; a query that is in the gallery is no member of it."""

    def distances(queries: I64, gallery: I64) -> F32:
        ranks = first(queries, gallery)
        for row, query in zip(ranks, queries, strict=True):
            order = np.argsort(row, kind="stable")
            order = order[gallery[order] != query]
            members = vectors[gallery[order[:MEMBERS]]]
            again = original_first(vectors[query], members, reranked(vectors[query], members, method), invariant)
            row[order[: len(again)]] = np.sort(row[order[: len(again)]])[np.argsort(again)]
        return ranks

    return distances


def places(keys: np.ndarray) -> F32:
    """Return the place of every gallery image in a query's order: float32 [Q, N]."""
    order = np.argsort(keys, axis=1, kind="stable")
    ranks = np.empty(keys.shape, np.float32)
    np.put_along_axis(ranks, order, np.arange(keys.shape[1], dtype=np.float32)[None], axis=1)
    return ranks
