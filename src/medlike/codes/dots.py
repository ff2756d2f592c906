"""Compiled dot products of int8 and int16 vectors, for ordering many equally near images by content."""

import numpy as np
from numpy.typing import NDArray

from medlike.codes.kernels import compiled


def dots(
    vectors: NDArray[np.int8], rows: NDArray[np.int64], query: NDArray[np.int8]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the dot product of some rows with a query, and of these rows with themselves.

    Args:
        vectors: int8 [N, D], D below 130,000.
        rows: int64 [M].
        query: int8 [D].

    Returns:
        Two arrays int32 [M], exact.
    """
    products, squares = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
    _dots(vectors, rows, query, products, squares)
    return products, squares


def products(
    vectors: NDArray[np.int16], rows: NDArray[np.int64], query: NDArray[np.int16]
) -> NDArray[np.int64]:
    """Return the dot product of some rows with a query: int64 [M], exact. vectors: int16 [N, D]; rows: int64 [M]."""
    out = np.empty(len(rows), np.int64)
    _products(vectors, rows, query, out)
    return out


@compiled
def _products(vectors, rows, query, out):  # type: ignore[no-untyped-def]
    for j in range(rows.shape[0]):
        vector = vectors[rows[j]]
        total = np.int64(0)
        for d in range(query.shape[0]):
            total += np.int64(np.int32(vector[d]) * np.int32(query[d]))
        out[j] = total


@compiled
def _dots(vectors, rows, query, products, squares):  # type: ignore[no-untyped-def]
    for j in range(rows.shape[0]):
        vector = vectors[rows[j]]
        product = np.int32(0)
        square = np.int32(0)
        for d in range(query.shape[0]):
            value = np.int32(vector[d])
            product += value * np.int32(query[d])
            square += value * value
        products[j] = product
        squares[j] = square
