"""Exact Hamming search over packed codes, ordered by (distance, row).

Small inputs are answered by numpy alone, so that nothing is compiled for them; larger ones by compiled
kernels on all cores. Both give identical answers.
"""

import itertools
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medlike.codes.threads import share
from medlike.errors import QueryError
from medlike.types import Array

_WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}  # by the largest power of two that divides the width
Codes = NDArray[np.uint8]
Distances = NDArray[np.int32]
Rows = NDArray[np.int64]
Engine = Literal["auto", "numpy", "compiled"]

SMALL = 2 << 20  # bytes of codes up to which numpy answers in a few milliseconds
ROOM = 4096  # ties that are kept beside the nearest while scanning
SPARSE = 32  # a mask that passes fewer than one row in so many is answered by reading only these
STEP = 1 << 18  # rows a thread takes at a time
WORTH = 1 << 24  # bytes of codes that pay for waking one more thread
_EMPTY = np.empty(0, np.uint8)
_Chosen = tuple[NDArray[np.int64], list[list[int]]]  # of one thread: candidates and state, as kernels.select has them


def distances(codes: Codes, query: Codes, engine: Engine = "auto") -> Distances:
    """Return the Hamming distance of every row to the query.

    Args:
        codes: uint8 [N, B].
        query: uint8 [B].
        engine: numpy, compiled, or by the size of the codes.

    Returns:
        int32 [N], 0 to 8 B, lower is nearer.

    Raises:
        QueryError: The widths differ.
    """
    table, target = _words(codes, query)
    if not _compiled(codes, engine):
        return _numpy_distances(table, target)
    kernels = _kernels()
    out = np.empty(len(table), np.uint16)
    flat = table.reshape(-1)

    def worker(counter: "itertools.count[int]") -> None:
        while (start := next(counter) * STEP) < len(table):
            stop = min(start + STEP, len(table))
            kernels.fill_distances(flat, target, start, stop, out[start:stop])

    share(_steps(len(table)), worker)
    return out.astype(np.int32)


def nearest(
    codes: Codes,
    query: Codes,
    k: int,
    mask: Array | None = None,
    radius: int | None = None,
    engine: Engine = "auto",
) -> tuple[Distances, Rows]:
    """Return the k nearest rows, ordered by (distance, row).

    Args:
        codes: uint8 [N, B].
        query: uint8 [B].
        k: Number of rows.
        mask: bool [N], or packed uint8 [ceil(N / 8)] most significant bit first; only rows that are True can be
            returned.
        radius: Largest distance returned.
        engine: numpy, compiled, or by the size of the codes.

    Returns:
        Distances int32 [m] and rows int64 [m] with m <= k.

    Raises:
        QueryError: k is negative, or shapes do not fit.
    """
    return nearest_many(codes, np.asarray(query)[None], k, mask, radius, engine)[0]


def nearest_many(
    codes: Codes,
    queries: Codes,
    k: int,
    mask: Array | None = None,
    radius: int | None = None,
    engine: Engine = "auto",
) -> list[tuple[Distances, Rows]]:
    """Return `nearest` for each of queries uint8 [Q, B] under one mask; codes are read once for all of them."""
    return [(near[:k], rows[:k]) for near, rows, _ in _search(codes, queries, k, mask, radius, engine, False)]


def nearest_and_more(
    codes: Codes,
    queries: Codes,
    k: int,
    mask: Array | None = None,
    radius: int | None = None,
    engine: Engine = "auto",
) -> list[tuple[Distances, Rows, int]]:
    """Return the k nearest rows of each query, ties as far as there is room, and how far the result is complete.

    Arguments are those of `nearest_many`.

    Returns:
        (distances, rows, complete) for each query, ordered by (distance, row): at least the k nearest, and every
        row under the mask at a distance of at most `complete`.
    """
    return _search(codes, queries, k, mask, radius, engine, True)


def within_blocks(
    codes: Codes, query: Codes, radius: int, mask: Array | None = None, engine: Engine = "auto"
) -> Iterator[tuple[Distances, Rows]]:
    """Yield the rows within a radius, piece by piece in row order, so that memory stays flat whatever their number.

    Yields:
        Distances int32 [m] and rows int64 [m], m at most 262,144, never empty.
    """
    table, target = _words(codes, query)
    allowed = _mask(mask, len(table))
    kernels = _kernels() if _compiled(codes, engine) and radius >= 0 else None
    size = min(STEP, len(table))
    near, rows = np.empty(size, np.uint16), np.empty(size, np.int64)
    for start in range(0, len(table) if radius >= 0 else 0, STEP):
        stop = min(start + STEP, len(table))
        if kernels is not None:
            count = kernels.collect(table.reshape(-1), target, _or_empty(allowed), start, stop, radius, near, rows)
            if count:
                yield near[:count].astype(np.int32), rows[:count].copy()
            continue
        block = _numpy_distances(table[start:stop], target)
        chosen = block <= radius
        if allowed is not None:
            chosen &= allowed[start:stop]
        local = np.flatnonzero(chosen)
        if len(local):
            yield block[local], local + start


def _search(
    codes: Codes,
    queries: Codes,
    k: int,
    mask: Array | None,
    radius: int | None,
    engine: Engine,
    ties: bool,
) -> list[tuple[Distances, Rows, int]]:
    if k < 0:
        raise QueryError(f"k is {k}: ask for 0 or more hits")
    table, target = _words(codes, queries)
    allowed = _mask(mask, len(table))
    bits = codes.shape[1] * 8
    limit = bits if radius is None else min(radius, bits)
    if k == 0 or limit < 0 or not len(table):
        return [(np.empty(0, np.int32), np.empty(0, np.int64), -1 if k == 0 else bits) for _ in target]
    if 4 * k < len(table) and _compiled(codes, engine):
        if allowed is None or np.count_nonzero(allowed) * SPARSE > len(table):
            return _select(table, target, k, allowed, limit, bits, ties)
        # So few rows may be answered that reading only them beats scanning all.
        few = np.flatnonzero(allowed)
        few_codes = np.ascontiguousarray(codes[few])
        answers = (_select_all(few_codes, query, k, None, limit, engine) for query in np.asarray(queries))
        return [(near, few[rows], complete) for near, rows, complete in answers]
    return [_select_all(codes, query, k, allowed, limit, engine) for query in np.asarray(queries)]


def _select(
    table: Array,
    queries: Array,
    k: int,
    allowed: NDArray[np.bool_] | None,
    limit: int,
    bits: int,
    ties: bool,
) -> list[tuple[Distances, Rows, int]]:
    kernels = _kernels()
    number = len(queries)
    capacity = 2 * k + (ROOM if ties else 64)
    arguments = table.reshape(-1), queries, _or_empty(allowed)
    # The k-th distance that any thread has reached.
    reached = np.full(number, limit, np.int64)
    most = min(_steps(len(table)), 1 + table.nbytes * number // WORTH)
    step = len(table) if most == 1 else STEP

    def worker(counter: "itertools.count[int]") -> _Chosen:
        keys = np.empty((number, capacity), np.int64)
        counts = np.zeros((number, bits + 2), np.int64)
        state = np.zeros((number, 4), np.int64)
        # As if rows beyond the radius had been dropped.
        state[:, 1], state[:, 3] = limit + 1, 1
        while (start := next(counter) * step) < len(table):
            stop = min(start + step, len(table))
            kernels.select(*arguments, start, stop, k, ties, keys, counts, state, reached)
        return keys, state.tolist()

    parts = share(most, worker)
    answers = []
    for q in range(number):
        candidates = np.concatenate([keys[q, : state[q][0]] for keys, state in parts])
        candidates.sort()
        near = (candidates >> kernels.PLACE).astype(np.int32)
        rows = candidates & ((1 << kernels.PLACE) - 1)
        # Rows at the limit are all there unless some were dropped for want of room.
        complete = min(state[q][1] - (state[q][3] if ties else 1) for _, state in parts)
        answers.append((near, rows, complete))
    return answers


def _select_all(
    codes: Codes,
    query: Codes,
    k: int,
    allowed: NDArray[np.bool_] | None,
    limit: int,
    engine: Engine,
) -> tuple[Distances, Rows, int]:
    """Select by counting sort, for nearly every row or for few rows."""
    every = distances(codes, query, engine)
    counted = every if allowed is None else every[allowed]
    totals = np.cumsum(np.bincount(counted, minlength=limit + 1)[: limit + 1])
    last = min(int(np.searchsorted(totals, k)), limit)
    chosen = every <= last
    if allowed is not None:
        chosen &= allowed
    rows = np.flatnonzero(chosen)
    near = every[rows]
    order = np.argsort(near.astype(np.uint16), kind="stable")
    return near[order], rows[order], last


def _numpy_distances(table: Array, query: Array) -> Distances:
    flips = np.bitwise_count(table ^ query)
    sums: Distances = flips[:, 0].astype(np.int32) if flips.shape[1] == 1 else flips.sum(axis=1, dtype=np.int32)
    return sums


def _words(codes: Codes, query: Codes) -> tuple[Array, Array]:
    codes, query = np.asarray(codes), np.asarray(query)
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise QueryError(f"codes are {codes.dtype} {list(codes.shape)}: they must be uint8 [N, bytes]")
    if query.dtype != np.uint8 or query.shape[-1:] != codes.shape[1:]:
        raise QueryError(
            f"the query code is {query.dtype} {list(query.shape)}: it must be uint8, {codes.shape[1]} bytes"
        )
    table = words(codes)
    return table, np.array(query, order="C").view(table.dtype)


def _mask(mask: Array | None, rows: int) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype == np.bool_ and mask.shape == (rows,):
        return np.ascontiguousarray(mask)
    if mask.dtype == np.uint8 and mask.shape == ((rows + 7) // 8,):
        return np.unpackbits(mask, count=rows).view(np.bool_)
    raise QueryError(
        f"the mask is {mask.dtype} {list(mask.shape)}: it must be bool [{rows}] or packed uint8 [{(rows + 7) // 8}]"
    )


def _or_empty(mask: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    return _EMPTY if mask is None else mask.view(np.uint8)


def _steps(rows: int) -> int:
    return -(-rows // STEP)


def engine(codes: Codes) -> Engine:
    """Return the engine that "auto" stands for; search parts of these codes with the same engine."""
    return "compiled" if _compiled(codes, "auto") else "numpy"


def _compiled(codes: Codes, engine: Engine) -> bool:
    return engine == "compiled" or (engine == "auto" and codes.nbytes > SMALL)


@cache
def _kernels() -> ModuleType:
    from medlike.codes import kernels

    return kernels


def words(codes: NDArray[np.uint8]) -> NDArray[np.unsignedinteger]:
    """View packed codes as the widest machine words that fit, without copying if memory allows it.

    Args:
        codes: uint8 [N, B].

    Returns:
        uint64, uint32, uint16 or uint8 [N, W] with W words of B / W bytes. The order of bits inside a word depends on
        the processor; a Hamming distance does not.
    """
    width = codes.shape[1]
    if width == 0:
        raise QueryError("codes have no bytes: a code has at least 8 bits")
    kind = _WORDS[min(width & -width, 8)]
    if codes.flags.c_contiguous and (view := codes.view(kind)).flags.aligned:
        return view
    return np.array(codes, order="C", copy=True).view(kind)
