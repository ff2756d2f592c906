"""Compiled Hamming scans (numba). Imported only for archives large enough to be worth the compilation.

A distance is a small integer, so selecting the k nearest needs no heap: a count per distance tells when a
distance can no longer enter, and from then on a block of rows is looked at again only where its smallest
distance still can.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 1024  # rows whose distances are kept in the first-level cache
STRIP = 128  # rows that are tested together for a distance small enough
FAR = 65535  # the distance of a row that the mask (uint8, 1 = may be answered) leaves out


def _probe() -> None:
    """Never called."""


try:
    numba.njit(cache=True)(_probe)
    _CACHED = True
except RuntimeError:
    # Neither the package nor the user's cache folder can be written: kernels are compiled in every process.
    _CACHED = False

compiled: Any = numba.njit(nogil=True, cache=_CACHED, boundscheck=False)


def _popcount(typingctx, value):  # type: ignore[no-untyped-def]
    """Number of set bits of an unsigned integer. LLVM turns it into vpopcnt where the processor has it."""
    if not isinstance(value, types.Integer):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = arguments[0].type
        function = builder.module.declare_intrinsic("llvm.ctpop", [kind], ir.FunctionType(kind, [kind]))
        return builder.call(function, [arguments[0]])

    return value(value), generate


popcount: Any = intrinsic(_popcount)


def _prefetch(typingctx, array, item):  # type: ignore[no-untyped-def]
    """Ask for the cache line that holds an item of an array (counted flat) before it is needed."""
    if not isinstance(array, types.Array) or not isinstance(item, types.Integer):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(array)(context, builder, arguments[0]).data
        byte, word = ir.IntType(8), ir.IntType(32)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), byte.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte.as_pointer()], kind)
        builder.call(function, [place, ir.Constant(word, 0), ir.Constant(word, 3), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(array, item), generate


prefetch: Any = intrinsic(_prefetch)


@compiled
def fill_distances(words, query, start, stop, out):  # type: ignore[no-untyped-def]
    """Distances of rows start..stop into out[0 : stop - start].

    words: uint [N W], row after row (flat, so that the compiler sees a stride of one); query: uint [W]; out:
    uint16.
    """
    width = query.shape[0]
    count = stop - start
    part = words[start * width : stop * width]
    if width == 1:
        q0 = query[0]
        for j in range(count):
            out[j] = np.uint16(popcount(part[j] ^ q0))
    elif width == 2:
        q0 = query[0]
        q1 = query[1]
        for j in range(count):
            out[j] = np.uint16(popcount(part[2 * j] ^ q0) + popcount(part[2 * j + 1] ^ q1))
    elif width == 4:
        q0 = query[0]
        q1 = query[1]
        q2 = query[2]
        q3 = query[3]
        for j in range(count):
            low = popcount(part[4 * j] ^ q0) + popcount(part[4 * j + 1] ^ q1)
            high = popcount(part[4 * j + 2] ^ q2) + popcount(part[4 * j + 3] ^ q3)
            out[j] = np.uint16(low + high)
    elif width == 8:
        # Written out, so that the compiler makes one vector of a row.
        q0 = query[0]
        q1 = query[1]
        q2 = query[2]
        q3 = query[3]
        q4 = query[4]
        q5 = query[5]
        q6 = query[6]
        q7 = query[7]
        for j in range(count):
            row = part[8 * j : 8 * j + 8]
            first = popcount(row[0] ^ q0) + popcount(row[1] ^ q1) + popcount(row[2] ^ q2) + popcount(row[3] ^ q3)
            other = popcount(row[4] ^ q4) + popcount(row[5] ^ q5) + popcount(row[6] ^ q6) + popcount(row[7] ^ q7)
            out[j] = np.uint16(first + other)
    else:
        for j in range(count):
            total = np.uint16(0)
            for w in range(width):
                total += np.uint16(popcount(part[j * width + w] ^ query[w]))
            out[j] = total


@compiled
def smallest(distances, start, stop):  # type: ignore[no-untyped-def]
    best = np.uint16(FAR)
    for j in range(start, stop):
        best = min(best, distances[j])
    return best


@compiled
def leave_out(buffer, mask, start, stop):  # type: ignore[no-untyped-def]
    """Distances of rows start..stop that the mask (uint8, 1 = may be answered) leaves out become FAR."""
    allowed = mask[start:stop]
    for j in range(stop - start):
        # 1 leaves the distance, 0 makes it FAR.
        buffer[j] |= np.uint16(np.uint16(allowed[j]) - np.uint16(1))


@compiled
def select(words, query, mask, masked, start, stop, k, ties, near, rows, counts, state):  # type: ignore[no-untyped-def]
    """Go on selecting the k nearest by (distance, row) with rows start..stop, above all rows seen before.

    near uint16 [capacity], rows int64 [capacity], capacity > 2 k: candidates so far; counts int64 [bits + 2]:
    candidates by distance; state int64 [4]: candidates held; limit, the distance of the k-th nearest so far;
    how many are under it; whether rows at it were dropped. ties: rows at the limit are kept too, as long as
    there is room.
    """
    held, limit, under, dropped = state[0], state[1], state[2], state[3]
    buffer = np.empty(BLOCK, np.uint16)
    block = start
    while block < stop:
        bound = limit + 1 if ties and not dropped else limit
        if bound <= 0:
            break
        end = min(block + BLOCK, stop)
        fill_distances(words, query, block, end, buffer)
        if masked:
            leave_out(buffer, mask, block, end)
        strip = 0 if smallest(buffer, 0, end - block) < bound else end - block
        while strip < end - block:
            last = min(strip + STRIP, end - block)
            if smallest(buffer, strip, last) < bound:
                for j in range(strip, last):
                    distance = np.int64(buffer[j])
                    if distance >= bound:
                        continue
                    if held == near.shape[0]:
                        if ties and not dropped:
                            held = squeeze(near, rows, held, limit, held)
                            if 2 * held > near.shape[0]:
                                dropped = 1
                        if not ties or dropped:
                            held = squeeze(near, rows, held, limit, k - under)
                        bound = limit + 1 if ties and not dropped else limit
                        if distance >= bound:
                            continue
                    near[held] = distance
                    rows[held] = block + j
                    held += 1
                    counts[distance] += 1
                    if distance < limit:
                        under += 1
                        while under >= k:
                            limit -= 1
                            under -= counts[limit]
                            # All rows at the new limit were kept: they were under the old one.
                            dropped = 0
                        bound = limit + 1 if ties and not dropped else limit
            strip = last
        block = end
    state[0], state[1], state[2], state[3] = held, limit, under, dropped


@compiled
def squeeze(near, rows, held, limit, room):  # type: ignore[no-untyped-def]
    """Drop candidates that cannot be among the k nearest: beyond the limit, or too many (`room`) at it."""
    kept = 0
    for j in range(held):
        distance = np.int64(near[j])
        if distance > limit:
            continue
        if distance == limit:
            if room == 0:
                continue
            room -= 1
        near[kept] = near[j]
        rows[kept] = rows[j]
        kept += 1
    return kept


@compiled
def select_many(words, queries, mask, masked, start, stop, k, ties, near, rows, counts, state):  # type: ignore[no-untyped-def]
    """`select` for queries uint [Q, W] at once: each block of codes is read from memory once for all."""
    # Blocks of 128 kB stay in the second-level cache while all queries pass over them.
    size = max(BLOCK, (1 << 17) // (queries.shape[1] * queries.itemsize))
    block = start
    while block < stop:
        end = min(block + size, stop)
        for q in range(queries.shape[0]):
            select(words, queries[q], mask, masked, block, end, k, ties, near[q], rows[q], counts[q], state[q])
        block = end


@compiled
def collect(words, query, mask, masked, start, stop, radius, near, rows):  # type: ignore[no-untyped-def]
    """Every row of start..stop within `radius`, in row order, into near uint16 and rows int64; returns how
    many.
    """
    held = 0
    buffer = np.empty(BLOCK, np.uint16)
    block = start
    while block < stop:
        end = min(block + BLOCK, stop)
        fill_distances(words, query, block, end, buffer)
        if masked:
            leave_out(buffer, mask, block, end)
        first = 0 if smallest(buffer, 0, end - block) <= radius else end - block
        for strip in range(first, end - block, STRIP):
            last = min(strip + STRIP, end - block)
            if smallest(buffer, strip, last) <= radius:
                for j in range(strip, last):
                    if buffer[j] <= radius:
                        near[held] = buffer[j]
                        rows[held] = block + j
                        held += 1
        block = end
    return held
