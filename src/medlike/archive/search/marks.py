"""Marks: stored images that a query is to be more like, or less; they move its vector.

    q' = q + 0.75 mean(like) - 0.15 mean(unlike)

q and the marked images are fitted vectors of unit length, or content vectors in an archive without a fit. Under a fit
the code is made of q'; without one the query keeps its code, and only similarity is to q'. Source: Rocchio, Relevance
Feedback in Information Retrieval, in The SMART Retrieval System, 1971; weights as in Manning, Raghavan and Schütze,
Introduction to Information Retrieval, 2008. The vector is made of whole numbers, so it is the same on every processor.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medlike.archive.index.index import View
from medlike.archive.search.encoded_query import EncodedQuery
from medlike.archive.search.query import Query
from medlike.errors import QueryError
from medlike.types import I8, I64

if TYPE_CHECKING:
    from medlike.archive.session import Session
    from medlike.codes.fit import Fit

UNIT = 1 << 14  # length of a vector in whole numbers
QUERY, LIKE, UNLIKE = 20, 15, 3  # weights, as multiples of 1 / 20


def moved(
    session: "Session", fit: "Fit | None", view: View, queries: Sequence[Query], encoded: Sequence[EncodedQuery]
) -> list[EncodedQuery]:
    """Return encoded queries, those with marks moved.

    Args:
        session: The archive.
        fit: What the queries were encoded under, None for the bundle's own codes.
        view: The generation in which the marked images are looked up.
        queries: The queries with their marks.
        encoded: The same, encoded.

    Raises:
        QueryError: A marked image is not in the archive.
    """
    return [
        _moved(session, fit, view, query, one) if query.like or query.unlike else one
        for query, one in zip(queries, encoded, strict=True)
    ]


def _moved(session: "Session", fit: "Fit | None", view: View, query: Query, encoded: EncodedQuery) -> EncodedQuery:
    like = _vectors(session, fit, view, query.like, encoded)
    unlike = _vectors(session, fit, view, query.unlike, encoded)
    vector = rocchio(encoded.content, like, unlike)
    code = encoded.code if fit is None else fit.codes(vector[None])[0]
    return replace(encoded, code=code, content=vector, like=tuple(query.like), unlike=tuple(query.unlike))


def rocchio(query: I8, like: I8, unlike: I8) -> I8:
    """Return a vector moved towards some vectors and away from others.

    Args:
        query: int8 [D].
        like: int8 [N, D].
        unlike: int8 [M, D].

    Returns:
        int8 [D], its largest magnitude 127.
    """
    likes, unlikes = max(len(like), 1), max(len(unlike), 1)
    whole = (
        QUERY * likes * unlikes * _of_unit_length(query[None]).sum(axis=0)
        + LIKE * unlikes * _of_unit_length(like).sum(axis=0)
        - UNLIKE * likes * _of_unit_length(unlike).sum(axis=0)
    )
    vector: I8 = np.rint(whole * (127.0 / max(int(np.abs(whole).max()), 1))).astype(np.int8)
    return vector


def _of_unit_length(vectors: I8) -> I64:
    """Return vectors of length `UNIT`: int64 [N, D]; zeros stay zeros."""
    wide = vectors.astype(np.int64)
    lengths = np.sqrt(np.maximum(np.square(wide).sum(axis=1, keepdims=True), 1).astype(np.float64))
    rounded: I64 = np.rint(wide * (UNIT / lengths)).astype(np.int64)
    return rounded


def _vectors(session: "Session", fit: "Fit | None", view: View, ids: Sequence[str], encoded: EncodedQuery) -> I8:
    """Return the vectors of stored images, as the query has its own: int8 [N, D]."""
    vectors = np.empty((len(ids), len(encoded.content)), np.int8)
    for at, id in enumerate(ids):
        row = session.store.find(id, view.generation)
        if row is None:
            raise QueryError(f"there is no image {id!r} in the archive to mark: take ids from a search")
        stored = session.store.encoding(row.row, session.folder.bundle.digest)
        if stored is None:
            raise QueryError(f"image {id} is not encoded under the archive's bundle: run `medlike reindex`")
        content = np.frombuffer(stored.content, np.int8)
        vectors[at] = content if fit is None else fit.encode(content[None])[1][0]
    return vectors
