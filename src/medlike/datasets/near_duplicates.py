"""Nearly equal images: 64-bit perceptual hashes within a Hamming distance, without comparing all pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

NEAR = 6
_BANDS = 4
_CHUNK = 4_000_000


def near_pairs(hashes: np.ndarray, distance: int = NEAR) -> np.ndarray:
    """Return pairs that join everything within `distance` bits, int64 [P, 2] of positions, first < second.

    Every pair of *distinct* hashes within the distance is there; positions that carry an equal hash are joined as a
    chain, so connected components are those of the full graph.

    The hash is cut into four bands of 16 bits. By the pigeonhole, two hashes within 6 (at most 7) bits differ
    by at most one bit in some band, so it is enough to look up each band and its 16 one-bit neighbours. Bits
    are dealt to the bands in turn: low frequencies agree between images of one kind and must not fill one.

    Args:
        hashes: uint64 [N].
        distance: Largest Hamming distance in bits, 0 to 7.
    """
    if not 0 <= distance <= 2 * _BANDS - 1:
        raise ValueError(f"distance is {distance}; the banded search is exact for 0..{2 * _BANDS - 1}")
    hashes = np.ascontiguousarray(hashes, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    equal = np.flatnonzero(ordered[1:] == ordered[:-1])
    pairs = [np.stack([order[equal], order[equal + 1]], axis=1)]
    unique, first = np.unique(hashes, return_index=True)
    probes = [0] + ([1 << bit for bit in range(16)] if distance >= _BANDS else [])
    for band in range(_BANDS):
        keys = _band(unique, band)
        by_key = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[by_key], np.arange(65537))
        for flip in probes:
            other = keys ^ flip
            begin, counts = starts[other], starts[other + 1] - starts[other]
            for rows in _chunks(counts):
                size = counts[rows]
                left = np.repeat(rows, size)
                within = np.arange(len(left)) - np.repeat(np.cumsum(size) - size, size)
                right = by_key[np.repeat(begin[rows], size) + within]
                keep = left < right
                left, right = left[keep], right[keep]
                close = np.bitwise_count(unique[left] ^ unique[right]) <= distance
                pairs.append(np.stack([first[left[close]], first[right[close]]], axis=1))
    return np.unique(np.sort(np.concatenate(pairs).astype(np.int64), axis=1), axis=0)


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Return the connected component of each node of a graph.

    Every node points at a smaller one of its component, or at itself. Each round joins the roots on either side of
    an edge and then shortens all paths to one step, until every edge lies within one component.

    Args:
        count: Number of nodes; they are 0 to count - 1.
        pairs: Edges, int [P, 2].

    Returns:
        int64 [count], components numbered by first appearance.
    """
    root = np.arange(count)
    edges = np.asarray(pairs, np.int64).reshape(-1, 2)
    while len(edges := edges[root[edges[:, 0]] != root[edges[:, 1]]]):
        ends = np.sort(root[edges], axis=1)
        np.minimum.at(root, ends[:, 1], ends[:, 0])
        while (root[root] != root).any():
            root = root[root]
    # A root is the smallest node of its component, so roots in order are components by first appearance.
    return np.unique(root, return_inverse=True)[1].astype(np.int64, copy=False)


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    key = np.zeros(len(hashes), np.int64)
    for bit in range(16):
        shift = np.uint64(bit * _BANDS + band)
        key |= ((hashes >> shift) & np.uint64(1)).astype(np.int64) << bit
    return key


def _chunks(counts: np.ndarray) -> list[np.ndarray]:
    """Split rows into runs whose candidates together stay below a few million, so memory stays bounded."""
    total = np.cumsum(counts)
    if not len(total):
        return []
    cuts = np.searchsorted(total, np.arange(_CHUNK, total[-1] + _CHUNK, _CHUNK), side="left") + 1
    bounds = np.unique(np.concatenate([[0], np.minimum(cuts, len(counts))]))
    return [np.arange(a, b) for a, b in pairwise(bounds) if b > a]
