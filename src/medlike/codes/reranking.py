"""Re-ranking of a shortlist by what its members say of each other.

diffusion: f = (I - a S)^-1 f0 on the graph of nearest members. An edge weighs max(0, cosine)^3; S = D^-1/2 W D^-1/2; f0
holds the query's own weights to its nearest members. Source: Iscen, Tolias, Avrithis, Furon and Chum, Efficient
Diffusion on Region Manifolds, CVPR 2017.

expansion: the query and each member are replaced by a weighted mean of themselves and their nearest members, an edge
weighing max(0, cosine)^8, and compared again; the score is the mean of the cosines before and after. Source: Radenovic,
Tolias and Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019 (alpha query expansion), applied
to the members too. The mean with the cosine before is ours: alone, the expanded one loses some of the first hits.

original_first: a map of fitted vectors to what altered copies of an image share, learned from such copies, tells which
member the query is most likely a copy of, if of any. That member goes first.

The order is the same on every processor. Cosines are made of exact integers by single operations of IEEE arithmetic
and then rounded to whole multiples of a power of two. All sums are of such whole numbers and stay below 2**53: float64
holds them exactly, in whatever order a processor adds. Members with equal scores keep their order.
"""

from typing import Literal

import numpy as np

from medlike.types import F32, F64, I8, I16, I64, U8

Method = Literal["diffusion", "expansion"]

SHORTLIST_IMAGES = 1000  # nearest by code
MEMBERS = 256  # of a shortlist that are re-ranked: 3 ms
# A changed constant changes the answers of receipts: give the order another name then.
NEAREST = 10  # members that each member, and the query, is joined with
DAMPING = 0.9  # a, the share of a score that comes from neighbours
_STEPS = 32  # of the iteration; what is left of the error is less than the rounding
_MAPPED = 15  # bits that invariant vectors are shifted down by, so that their products stay exact
_EXACT = 1040  # widths up to which float32 holds every sum of products of int8
_UNIT = float(1 << 20)  # weights are whole multiples of 1 / _UNIT
_GRID = float(1 << 22)  # scores of diffusion are whole multiples of 1 / _GRID


def reranked(query: I8, members: I8, method: Method = "expansion", nearest: int = NEAREST) -> I64:
    """Return the order of the members of a shortlist, best first.

    Args:
        query: int8 [D], the content vector of the query; or int8 [Q, D] of several images, the best of which counts.
        members: int8 [n, D], those of the members, in their order so far; n at most 1,000.
        method: How they are compared, as the module says.
        nearest: How many members each is joined with.

    Returns:
        int64 [n], positions in `members`; those with equal scores in their order so far.
    """
    if len(members) < 2:
        return np.arange(len(members))
    queries = np.atleast_2d(query)
    cosines = _cosines(np.concatenate([members, queries]))
    score = _diffused if method == "diffusion" else _expanded
    scores = []
    for at in range(len(members), len(cosines)):
        rows = np.append(np.arange(len(members)), at)
        scores.append(score(cosines[np.ix_(rows, rows)], nearest))
    return np.argsort(-np.max(scores, axis=0), kind="stable")


def original_first(query: I8, members: I8, order: I64, invariant: I16 | None) -> I64:
    """Return an order of members with the one first that the query is most likely an altered copy of.

    Args:
        query: int8 [D], the fitted vector of the query; or int8 [Q, D] of several images.
        members: int8 [n, D], those of the members.
        order: int64 [n], positions in `members`, best first; ties are decided by it.
        invariant: int16 [D, D], `Fit.invariant`. None leaves the order as it is.
    """
    if invariant is None or len(order) < 2:
        return order
    wide = invariant.astype(np.float64)
    vectors = np.concatenate([members[order], np.atleast_2d(query)])
    mapped = np.rint(vectors.astype(np.float64) @ wide * 2.0**-_MAPPED)
    count = len(order)
    products = mapped[:count] @ mapped[count:].T
    squares = np.einsum("nd,nd->n", mapped, mapped)
    cosines = products / np.sqrt(np.maximum(squares[:count, None] * squares[count:], 1.0))
    best = int(np.argmax(cosines.max(axis=1)))
    return np.concatenate([order[best : best + 1], np.delete(order, best)])


def by_neighbours(code: U8, vector: I8, codes: U8, vectors: I8, invariant: I16 | None = None) -> I64:
    """Return a few thousand images in the order "neighbours" of a search, best first; ties by position.

    Args:
        code: uint8 [K / 8], the query's.
        vector: int8 [D], the query's.
        codes: uint8 [N, K / 8], those of the images.
        vectors: int8 [N, D], those of the images.
        invariant: `Fit.invariant`.

    Returns:
        int64 [N], positions.
    """
    wide = vectors.astype(np.float64)
    squares = np.einsum("nd,nd->n", wide, wide) * float(np.square(vector, dtype=np.float64).sum())
    alike = (wide @ vector.astype(np.float64) / np.sqrt(np.maximum(squares, 1.0))).astype(np.float32)
    order = np.lexsort((-alike, np.bitwise_count(code ^ codes).sum(axis=1, dtype=np.int64)))
    shortlist = np.sort(order[:SHORTLIST_IMAGES])
    shortlist = shortlist[np.argsort(-alike[shortlist], kind="stable")]
    members = shortlist[:MEMBERS]
    again = original_first(vector, vectors[members], reranked(vector, vectors[members]), invariant)
    members = members[again]
    return np.concatenate([members, shortlist[MEMBERS:], order[SHORTLIST_IMAGES:]])


def _cosines(vectors: I8) -> F64:
    """Return the cosines of all pairs: float64 [n, n]; 0 for a vector of zeros. Each is rounded once for each step."""
    wide: F32 | F64 = vectors.astype(np.float32) if vectors.shape[1] <= _EXACT else vectors.astype(np.float64)
    products = (wide @ wide.T).astype(np.float64)
    squares = products.diagonal()
    cosines: F64 = products / np.sqrt(np.maximum(squares[:, None] * squares, 1.0))
    return cosines


def _largest(cosines: F64, count: int) -> F64:
    """Return max(0, cosine) of each row's `count` largest, with all that equal the last of them; 0 for the others."""
    weights = np.maximum(cosines, 0.0)
    if count < weights.shape[-1]:
        last = np.partition(weights, -count, axis=-1)[..., -count, None]
        weights = np.where(weights >= last, weights, 0.0)
    return weights


def _cubes(values: F64) -> F64:
    return values * values * values


def _eighth_powers(values: F64) -> F64:
    for _ in range(3):
        values = values * values
    return values


def _diffused(cosines: F64, nearest: int) -> F64:
    """Return the scores of diffusion: float64 [n] for cosines [n + 1, n + 1] whose last row is the query's."""
    graph = cosines[:-1, :-1].copy()
    np.fill_diagonal(graph, 0.0)
    graph = _cubes(_largest(graph, nearest))
    graph = np.rint(_UNIT * np.maximum(graph, graph.T))
    degrees = np.maximum(graph.sum(axis=1), 1.0)
    # The graph has few edges. A dense product would also wake threads of the BLAS library in each step.
    rows, columns = np.nonzero(graph)
    edges = np.rint(_UNIT * (graph[rows, columns] / np.sqrt(degrees[rows] * degrees[columns])))
    linked, starts = np.unique(rows, return_index=True)
    received = np.zeros(len(graph))
    start = np.rint(_GRID * _cubes(_largest(cosines[-1, :-1], nearest)))
    # Chebyshev's semi-iteration: the eigenvalues of S lie between -1 and 1, so those of a S between -a and a.
    former, scores, pace = np.zeros_like(start), start, 1.0
    for step in range(_STEPS):
        pace = 1.0 / (1.0 - DAMPING**2 * pace / (2.0 if step == 0 else 4.0))
        received[linked] = np.add.reduceat(edges * scores[columns], starts) if len(starts) else 0.0
        change = start + DAMPING * (received / _UNIT) - former
        former, scores = scores, np.rint(former + pace * change)
    return scores


def _expanded(cosines: F64, nearest: int) -> F64:
    """Return the scores of expansion: float64 [n] for cosines [n + 1, n + 1] whose last row is the query's."""
    rounded = np.rint(_UNIT * cosines)
    weights = _eighth_powers(_largest(cosines[:, :-1], nearest))
    weights = np.rint(_UNIT / 16 * np.pad(weights, ((0, 0), (0, 1))))
    # Each is one of its own nearest members; the query is none, and counts as itself.
    weights[-1, -1] = _UNIT / 16
    mixed = np.rint(weights @ rounded / _UNIT)
    products = mixed[:-1] @ weights[-1]
    squares = np.maximum((mixed * weights).sum(axis=1), 1.0)
    scores: F64 = rounded[-1, :-1] / _UNIT + products / np.sqrt(squares[:-1] * squares[-1])
    return scores
