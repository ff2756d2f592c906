"""Compiled Hamming scans (numba). Imported only for archives large enough to be worth the compilation.

A distance is a small integer, so selecting the k nearest needs no heap: a count per distance tells when a
distance can no longer enter. From then on one comparison of 64 distances at a time says which rows still can,
and only these are looked at one by one.
"""

from collections.abc import Callable

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK = 4096  # rows whose distances are kept in the first-level cache; in fewer, taking up each block costs
STRIP = 64  # rows that are tested together for a distance small enough: one bit each
PLACE = 40  # a candidate is one number, distance << PLACE | row: its order is that of (distance, row)
FAR = 65535  # the distance of a row that the mask (uint8, 1 = may be answered) leaves out


def _probe() -> None:
    """Do nothing; this is never called."""


try:
    numba.njit(cache=True)(_probe)
    _CACHED = True
except RuntimeError:
    # Neither the package nor the user's cache folder can be written: kernels are compiled in every process.
    _CACHED = False

compiled = numba.njit(nogil=True, cache=_CACHED, boundscheck=False)


@intrinsic
def popcount(typingctx, value):  # type: ignore[no-untyped-def]
    """Return the number of set bits of an unsigned integer. LLVM turns it into vpopcnt if the processor has it."""
    if not isinstance(value, types.Integer):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = arguments[0].type
        function = builder.module.declare_intrinsic("llvm.ctpop", [kind], ir.FunctionType(kind, [kind]))
        return builder.call(function, [arguments[0]])

    return value(value), generate


@intrinsic
def prefetch(typingctx, array, item):  # type: ignore[no-untyped-def]
    """Prefetch the cache line that holds an item of an array (counted flat)."""
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


@intrinsic
def below(typingctx, buffer, start, bound):  # type: ignore[no-untyped-def]
    """Return which of 64 numbers of a uint16 array are less than a bound: one bit each, lowest first."""
    if not isinstance(buffer, types.Array) or buffer.dtype != types.uint16:
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(buffer)(context, builder, arguments[0]).data
        strip, word = ir.VectorType(ir.IntType(16), STRIP), ir.IntType(32)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), strip.as_pointer())
        nothing = ir.Constant(strip, ir.Undefined)
        single = builder.insert_element(nothing, arguments[2], ir.Constant(word, 0))
        bounds = builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(word, STRIP), [0] * STRIP))
        less = builder.icmp_unsigned("<", builder.load(place, align=2), bounds)
        return builder.bitcast(less, ir.IntType(STRIP))

    return types.uint64(buffer, types.intp, types.uint16), generate


@intrinsic
def lowest(typingctx, value):  # type: ignore[no-untyped-def]
    """Return the number of the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = arguments[0].type
        shape = ir.FunctionType(kind, [kind, ir.IntType(1)])
        function = builder.module.declare_intrinsic("llvm.cttz", [kind], shape)
        return builder.call(function, [arguments[0], ir.Constant(ir.IntType(1), 1)])

    return types.intp(types.uint64), generate


def _eight_rows(width: int) -> Callable[..., None]:
    """Return an intrinsic for rows of 2, 4 or 8 words.

    It writes the distances of 8 rows from words[at] on to out[row : row + 8] (uint16). As many vectors as a row has
    words are added crosswise until one holds all eight sums, in order. The compiler alone takes twice as long for
    rows of 8 words, each added up by itself, and half as long again for rows of 2.
    """

    def eight_rows(typingctx, words, at, query, out, row):  # type: ignore[no-untyped-def]
        """Write the distances of 8 rows."""
        if not isinstance(words, types.Array) or not isinstance(query, types.Array):
            return None

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            size = words.dtype.bitwidth
            vector, short = ir.VectorType(ir.IntType(size), 8), ir.VectorType(ir.IntType(16), 8)

            def start(array, value):  # type: ignore[no-untyped-def]
                return context.make_array(array)(context, builder, value).data

            def loaded(pointer, kind):  # type: ignore[no-untyped-def]
                return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=size // 8)

            def mixed(first, second, chosen):  # type: ignore[no-untyped-def]
                return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), 8), chosen))

            count = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v8i{size}"
            )
            data = start(words, arguments[0])
            repeated = loaded(start(query, arguments[2]), ir.VectorType(ir.IntType(size), width))
            repeated = mixed(repeated, repeated, [lane % width for lane in range(8)])
            places = [builder.add(arguments[1], ir.Constant(ir.IntType(64), 8 * each)) for each in range(width)]
            rows = [loaded(builder.gep(data, [place]), vector) for place in places]
            sums = [builder.call(count, [builder.xor(each, repeated)]) for each in rows]
            while len(sums) > 1:
                pairs = zip(sums[::2], sums[1::2], strict=True)
                even, odd = list(range(0, 16, 2)), list(range(1, 16, 2))
                sums = [builder.add(mixed(one, other, even), mixed(one, other, odd)) for one, other in pairs]
            distances = sums[0]
            if size != 16:
                distances = builder.trunc(distances, short) if size > 16 else builder.zext(distances, short)
            target = builder.bitcast(builder.gep(start(out, arguments[3]), [arguments[4]]), short.as_pointer())
            builder.store(distances, target, align=2)
            return context.get_dummy_value()

        return types.void(words, types.intp, query, out, types.intp), generate

    compiled_rows: Callable[..., None] = intrinsic(eight_rows)
    return compiled_rows


two_words = _eight_rows(2)
four_words = _eight_rows(4)
eight_words = _eight_rows(8)


@compiled
def flips(words, query, row):  # type: ignore[no-untyped-def]
    """Return the distance of one row, for words and a query of any width."""
    width = query.shape[0]
    total = np.uint16(0)
    for w in range(width):
        total += np.uint16(popcount(words[row * width + w] ^ query[w]))
    return total


@compiled
def fill_distances(words, query, start, stop, out):  # type: ignore[no-untyped-def]
    """Write the distances of rows start..stop to out[0 : stop - start].

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
        return
    whole = count // 8 * 8 if width in (2, 4, 8) else 0
    if width == 2:
        for j in range(0, whole, 8):
            two_words(part, 2 * j, query, out, j)
    elif width == 4:
        for j in range(0, whole, 8):
            four_words(part, 4 * j, query, out, j)
    elif width == 8:
        for j in range(0, whole, 8):
            eight_words(part, 8 * j, query, out, j)
    for j in range(whole, count):
        out[j] = flips(part, query, j)


@compiled
def leave_out(buffer, mask, start, stop):  # type: ignore[no-untyped-def]
    """Set the distances of rows start..stop that the mask (uint8, 1 = may be returned) leaves out to FAR."""
    allowed = mask[start:stop]
    for j in range(stop - start):
        # 1 leaves the distance, 0 makes it FAR.
        buffer[j] |= np.uint16(np.uint16(allowed[j]) - np.uint16(1))


@compiled
def block_distances(words, query, mask, start, stop, buffer):  # type: ignore[no-untyped-def]
    """Write the distances of rows start..stop, at most BLOCK, to a buffer, and FAR after them to the end of the strip.

    mask: uint8 [N], 1 = may be returned, or empty if all may.
    """
    fill_distances(words, query, start, stop, buffer)
    if mask.shape[0]:
        leave_out(buffer, mask, start, stop)
    for j in range(stop - start, (stop - start + STRIP - 1) // STRIP * STRIP):
        buffer[j] = FAR


@compiled
def select(words, queries, mask, start, stop, k, ties, keys, counts, state, reached):  # type: ignore[no-untyped-def]
    """Continue to select the k nearest by (distance, row) of each query with rows start..stop, above all earlier rows.

    queries: uint [Q, W]; mask as in `block_distances`; keys int64 [Q, capacity], capacity > 2 k: candidates so far,
    rows ascending; counts int64 [Q, bits + 2]: candidates by distance; state int64 [Q, 4]: number of candidates; limit,
    the distance of the k-th nearest so far; how many are under it; whether rows at it were dropped. ties: rows at
    the limit are stored too, as long as there is room. reached int64 [Q]: the least limit of any thread.
    """
    buffer = np.empty(BLOCK, np.uint16)
    size = max(BLOCK, stop - start)
    if queries.shape[0] > 1:
        # 128 kB stay in the second-level cache while all queries pass over them.
        size = max(BLOCK, (1 << 17) // (queries.shape[1] * queries.itemsize))
    for first in range(start, stop, size):
        last = min(first + size, stop)
        for q in range(queries.shape[0]):
            if state[q, 1] > reached[q] + 1:
                # Farther rows are of no use: another thread has k nearer ones.
                state[q, 1], state[q, 2], state[q, 3] = reached[q] + 1, counts[q, : reached[q] + 1].sum(), 1
            select_one(words, queries[q], mask, first, last, k, ties, keys[q], counts[q], state[q], buffer)
            reached[q] = min(reached[q], state[q, 1])


@compiled
def select_one(words, query, mask, start, stop, k, ties, keys, counts, state, buffer):  # type: ignore[no-untyped-def]
    """Continue the selection of the nearest rows for codes of one word."""
    number, limit, under, dropped = state[0], state[1], state[2], state[3]
    bound = limit + 1 if ties and not dropped else limit
    for block in range(start, stop, BLOCK):
        if bound <= 0:
            break
        end = min(block + BLOCK, stop)
        block_distances(words, query, mask, block, end, buffer)
        for strip in range(0, end - block, STRIP):
            near = below(buffer, strip, np.uint16(bound))
            while near:
                row = strip + lowest(near)
                near &= near - np.uint64(1)
                distance = np.int64(buffer[row])
                if distance >= bound:
                    continue
                if number == keys.shape[0]:
                    if ties and not dropped:
                        number = squeeze(keys, number, limit, number)
                        if 2 * number > keys.shape[0]:
                            dropped = 1
                    if not ties or dropped:
                        number = squeeze(keys, number, limit, k - under)
                    bound = limit + 1 if ties and not dropped else limit
                    if distance >= bound:
                        continue
                keys[number] = distance << PLACE | (block + row)
                number += 1
                counts[distance] += 1
                if distance < limit:
                    under += 1
                    while under >= k:
                        limit -= 1
                        under -= counts[limit]
                        # All rows at the new limit were kept: they were under the old one.
                        dropped = 0
                    bound = limit + 1 if ties and not dropped else limit
    state[0], state[1], state[2], state[3] = number, limit, under, dropped


@compiled
def squeeze(keys, number, limit, room):  # type: ignore[no-untyped-def]
    """Drop candidates that cannot be among the k nearest: beyond the limit, or too many (`room`) at it."""
    left = 0
    for j in range(number):
        distance = keys[j] >> PLACE
        if distance > limit:
            continue
        if distance == limit:
            if room == 0:
                continue
            room -= 1
        keys[left] = keys[j]
        left += 1
    return left


@compiled
def collect(words, query, mask, start, stop, radius, near, rows):  # type: ignore[no-untyped-def]
    """Write each row of start..stop within `radius`, in order, into near (uint16) and rows (int64); return how many."""
    number = 0
    buffer = np.empty(BLOCK, np.uint16)
    # FAR is no distance, whatever the radius.
    bound = np.uint16(min(radius, FAR - 1) + 1)
    for block in range(start, stop, BLOCK):
        end = min(block + BLOCK, stop)
        block_distances(words, query, mask, block, end, buffer)
        for strip in range(0, end - block, STRIP):
            hits = below(buffer, strip, bound)
            while hits:
                row = strip + lowest(hits)
                hits &= hits - np.uint64(1)
                near[number] = buffer[row]
                rows[number] = block + row
                number += 1
    return number
