"""Rankings as tie groups: per query, how many gallery items and how many relevant ones lie at each distance.

Every retrieval metric of this package is computed from these counts, so ties are treated exactly: nothing
depends on the order in which equal distances happen to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medlike.errors import QueryError

_PAIRS = 4_000_000


@dataclass(frozen=True)
class TieCounts:
    """Hold counts per query and tie group, nearest group first.

    Attributes:
        items: int64 [Q, G], gallery items in the group (0 for an empty one). For Hamming codes group g is distance
            g, so G = bits + 1.
        relevant: int64 [Q, G], the relevant ones among them.
    """

    items: np.ndarray
    relevant: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """Return the number of relevant items in the gallery: int64 [Q]. Queries with 0 have no average precision."""
        return self.relevant.sum(axis=1)


@dataclass(frozen=True)
class Relevance:
    """Decide which gallery item is relevant to which query: same label, any shared label, or as `pairs` has it.

    Attributes:
        queries: Labels of the queries: int64 [Q], or float32 [Q, L] of 0 and 1 for several labels an image.
        gallery: Labels of the gallery, likewise [N] or [N, L].
        exclude_queries: int64 [Q] or None. Pairs whose exclusion ids are equal and not negative are left out of the
            ranking altogether (the same study, the same source).
        exclude_gallery: int64 [N] or None.
        pairs: bool [Q, N], takes the place of labels; or None.
    """

    queries: np.ndarray
    gallery: np.ndarray
    exclude_queries: np.ndarray | None = None
    exclude_gallery: np.ndarray | None = None
    pairs: np.ndarray | None = None

    @classmethod
    def of_pairs(cls, pairs: np.ndarray) -> Relevance:
        """Make a Relevance from a matrix of all pairs: bool [Q, N].

        Raises:
            QueryError: `pairs` has another type or shape.
        """
        pairs = np.asarray(pairs)
        if pairs.ndim != 2 or pairs.dtype != bool:
            raise QueryError(f"relevance is {pairs.dtype} {list(pairs.shape)}: give bool [queries, gallery]")
        return cls(np.zeros(len(pairs), np.int64), np.zeros(pairs.shape[1], np.int64), pairs=pairs)

    @classmethod
    def of(
        cls,
        query_labels: np.ndarray,
        labels: np.ndarray,
        exclude_queries: np.ndarray | None = None,
        exclude_gallery: np.ndarray | None = None,
    ) -> Relevance:
        """Make a Relevance from label arrays.

        Args:
            query_labels: Strings or ints [Q], or bool [Q, L] for several labels an image.
            labels: The same of the gallery, [N] or [N, L].
            exclude_queries: int64 [Q]; pairs with equal ids of 0 or more are left out of the ranking.
            exclude_gallery: int64 [N]; give both or neither.

        Raises:
            QueryError: Shapes do not fit, or only one array of exclusion ids is given.
        """
        queries, gallery = np.asarray(query_labels), np.asarray(labels)
        if queries.ndim != gallery.ndim or queries.ndim not in (1, 2) or queries.shape[1:] != gallery.shape[1:]:
            raise QueryError(
                f"query labels have shape {list(queries.shape)} and gallery labels {list(gallery.shape)}: "
                "both must be [N], or both bool [N, L] with the same L"
            )
        if queries.ndim == 1:
            queries, gallery = _numbered(queries, gallery)
        else:
            queries, gallery = queries.astype(np.float32), gallery.astype(np.float32)
        if (exclude_queries is None) != (exclude_gallery is None):
            raise QueryError("give exclusion ids for the queries and for the gallery, or for neither")
        if exclude_queries is not None and exclude_gallery is not None:
            exclude_queries, exclude_gallery = np.asarray(exclude_queries), np.asarray(exclude_gallery)
        return cls(queries, gallery, exclude_queries, exclude_gallery)

    def relevant(self, rows: slice) -> np.ndarray:
        """Return the relevance of every gallery item for the queries `rows`: bool [B, N]."""
        if self.pairs is not None:
            return self.pairs[rows]
        if self.queries.ndim == 1:
            return self.queries[rows, None] == self.gallery[None, :]
        return (self.queries[rows] @ self.gallery.T) > 0

    def left_out(self, rows: slice) -> np.ndarray | None:
        """Return which pairs are left out: bool [B, N], or None if none are."""
        if self.exclude_queries is None or self.exclude_gallery is None:
            return None
        own = self.exclude_queries[rows, None]
        return (own == self.exclude_gallery[None, :]) & (own >= 0)


def hamming_counts(query_codes: np.ndarray, codes: np.ndarray, relevance: Relevance | np.ndarray) -> TieCounts:
    """Return the tie groups of packed codes: group g holds the items at Hamming distance g.

    Args:
        query_codes: uint8 [Q, B].
        codes: uint8 [N, B], the same B.
        relevance: A Relevance, or bool [Q, N].

    Raises:
        QueryError: Shapes do not fit.
    """
    relevance = _as_relevance(relevance)
    queries, gallery = _packed(query_codes, "query codes"), _packed(codes, "codes")
    if queries.shape[1] != gallery.shape[1]:
        raise QueryError(
            f"query codes have {queries.shape[1] * 8} bits, gallery codes {gallery.shape[1] * 8}: "
            "both must come from the same bundle"
        )
    _matching(relevance, len(queries), len(gallery))
    bits = queries.shape[1] * 8
    a, b = _words(queries), _words(gallery)
    parts = [
        _histogram(_distances(a[rows], b), relevance.relevant(rows), relevance.left_out(rows), bits + 1)
        for rows in _batches(len(queries), len(gallery))
    ]
    return _stack(parts, bits + 1)


def score_counts(distances: np.ndarray, relevance: Relevance | np.ndarray, start: int = 0) -> TieCounts:
    """Return the tie groups of real distances (lower is nearer): one group a distinct value, in rising order.

    Args:
        distances: float [Q, N].
        relevance: A Relevance, or bool [Q, N].
        start: Row of `relevance` that the first row of `distances` belongs to.

    Raises:
        QueryError: `distances` has another shape or holds NaN.
    """
    distances, relevance = np.asarray(distances), _as_relevance(relevance)
    if distances.ndim != 2:
        raise QueryError(f"distances have shape {list(distances.shape)}: they must be [queries, gallery]")
    if np.isnan(distances).any():
        raise QueryError("distances hold NaN: a ranking needs numbers")
    rows = slice(start, start + len(distances))
    relevant, left_out = relevance.relevant(rows), relevance.left_out(rows)
    if left_out is not None:
        distances = np.where(left_out, np.inf, distances)
    order = np.argsort(distances, axis=1, kind="stable")
    ordered = np.take_along_axis(distances, order, axis=1)
    hits = np.take_along_axis(relevant, order, axis=1)
    dropped = None if left_out is None else np.take_along_axis(left_out, order, axis=1)
    steps = np.zeros(distances.shape, dtype=np.int32)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=steps[:, 1:], casting="unsafe")
    groups = np.cumsum(steps, axis=1, dtype=np.int32)
    return _histogram(groups, hits, dropped, max(distances.shape[1], 1))


def feature_counts(
    query_features: np.ndarray, features: np.ndarray, relevance: Relevance | np.ndarray
) -> Iterator[TieCounts]:
    """Yield the tie groups by cosine of float features, in batches of queries so that memory stays bounded.

    Args:
        query_features: float [Q, D], normalised here.
        features: float [N, D], likewise.
        relevance: A Relevance, or bool [Q, N].

    Yields:
        Tie groups of the next queries, in order.

    Raises:
        QueryError: Shapes do not fit, or a row is zero or not finite.
    """
    relevance = _as_relevance(relevance)
    queries, gallery = _unit(query_features, "query features"), _unit(features, "features")
    if queries.shape[1] != gallery.shape[1]:
        raise QueryError(f"query features have {queries.shape[1]} dimensions, features {gallery.shape[1]}")
    _matching(relevance, len(queries), len(gallery))
    for rows in _batches(len(queries), len(gallery)):
        yield score_counts(-(queries[rows] @ gallery.T), relevance, rows.start)


def _as_relevance(given: Relevance | np.ndarray) -> Relevance:
    return given if isinstance(given, Relevance) else Relevance.of_pairs(given)


def _numbered(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int64 numbers; equal labels get equal numbers. Mixed kinds compare as text."""
    if a.dtype.kind != b.dtype.kind and not (a.dtype.kind in "iub" and b.dtype.kind in "iub"):
        a, b = a.astype(str), b.astype(str)
    _, inverse = np.unique(np.concatenate([a, b]), return_inverse=True)
    return inverse[: len(a)], inverse[len(a) :]


def _packed(codes: np.ndarray, name: str) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] == 0:
        raise QueryError(
            f"{name} are {codes.dtype} {list(codes.shape)}: give packed codes, uint8 [N, bits / 8] "
            "(numpy.packbits of the bits)"
        )
    return codes


def _unit(features: np.ndarray, name: str) -> np.ndarray:
    features = np.asarray(features)
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise QueryError(f"{name} are {features.dtype} {list(features.shape)}: give numbers [N, D]")
    features = features.astype(np.float32)
    if not np.isfinite(features).all():
        raise QueryError(f"{name} hold NaN or infinity")
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    if (norms == 0).any():
        raise QueryError(f"row {int(np.argmin(norms))} of the {name} is all zeros: it has no direction")
    return features / norms


def _matching(relevance: Relevance, queries: int, gallery: int) -> None:
    for name, count, labels in (
        ("query", queries, relevance.queries),
        ("gallery", gallery, relevance.gallery),
    ):
        if len(labels) != count:
            raise QueryError(f"{count} {name} codes but {len(labels)} {name} labels: give one label each")


def _words(codes: np.ndarray) -> np.ndarray:
    padded = np.zeros((len(codes), -(-codes.shape[1] // 8) * 8), np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view(np.uint64)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = np.zeros((len(a), len(b)), np.uint16)
    for word in range(a.shape[1]):
        total += np.bitwise_count(a[:, word, None] ^ b[None, :, word])
    return total


def _histogram(groups: np.ndarray, relevant: np.ndarray, left_out: np.ndarray | None, count: int) -> TieCounts:
    queries = len(groups)
    # One extra group swallows the pairs that are left out.
    wide = count + 1
    key = groups.astype(np.int32)
    if left_out is not None:
        key[left_out] = count
    key += (np.arange(queries, dtype=np.int32) * wide)[:, None]
    key <<= 1
    key |= relevant
    found = np.bincount(key.ravel(), minlength=queries * wide * 2).reshape(queries, wide, 2)[:, :count]
    return TieCounts(found.sum(axis=2), np.ascontiguousarray(found[:, :, 1]))


def _batches(queries: int, gallery: int) -> Iterator[slice]:
    size = max(1, _PAIRS // max(gallery, 1))
    for start in range(0, queries, size):
        yield slice(start, min(start + size, queries))


def _stack(parts: list[TieCounts], groups: int) -> TieCounts:
    if not parts:
        return TieCounts(np.zeros((0, groups), np.int64), np.zeros((0, groups), np.int64))
    return TieCounts(np.concatenate([p.items for p in parts]), np.concatenate([p.relevant for p in parts]))
