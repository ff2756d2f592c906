"""Steps of the regional scan for 32 cells at a time, which the compiler alone does not make so fast.

`take_apart` and `look_up` count differing bits on processors with AVX2 but no instruction that counts. Cells are taken
apart into nibbles, of which row n holds the n-th of every cell. The number of bits in which a nibble differs from that
of a query is then one look-up in a table of 16 bytes, which one instruction does for 32 cells.
Source: Muła, Kurz and Lemire, Faster Population Counts Using AVX2 Instructions, The Computer Journal 2018.
"""

from collections.abc import Callable

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from medlike.types import U8, U64

EACH = 16  # nibbles of a word
CELLS = 32  # that are looked up at a time
HELD = 8  # tables that fit into the registers of the processor beside all else


def _features() -> set[str]:
    """Return the names of the features of the processor that kernels are compiled for."""
    if numba.config.CPU_FEATURES is not None:
        return {name[1:] for name in numba.config.CPU_FEATURES.split(",") if name.startswith("+")}
    return {name for name, there in llvmlite.binding.get_host_cpu_features().items() if there}


#: Whether look-ups are the fastest way to count here.
USED = "avx2" in _features() and "avx512vpopcntdq" not in _features()


def tables(codes: U64) -> U8:
    """Return a table for each nibble of some query cells.

    Args:
        codes: uint64 [C, W].

    Returns:
        uint8 [C, 16 W, 32]: the number of bits in which a nibble differs from that of the query, twice over.
    """
    counts = np.bitwise_count(np.arange(EACH, dtype=np.uint8)[:, None] ^ np.arange(EACH, dtype=np.uint8))
    nibbles = (codes[:, :, None] >> np.arange(0, 64, 4, dtype=np.uint64)) & np.uint64(15)
    return np.tile(counts[nibbles.reshape(len(codes), -1).astype(np.int64)], 2)


_BYTES = ir.VectorType(ir.IntType(8), CELLS)
_WORD = ir.IntType(32)


def _place(context, builder, array, value, at):  # type: ignore[no-untyped-def]
    """Return a pointer to the item of an array that is `at` items behind its start."""
    return builder.gep(context.make_array(array)(context, builder, value).data, [at])


def _vector(builder, pointer, kind):  # type: ignore[no-untyped-def]
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _store(builder, value, pointer):  # type: ignore[no-untyped-def]
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=1)


@intrinsic
def take_apart(typingctx, words, at, nibbles, to, stride):  # type: ignore[no-untyped-def]
    """Write the nibbles of the 32 words from words[at] on to nibbles[to + n * stride : ... + 32], n from 0 to 15.

    words: uint64, C order; nibbles: uint8, C order; both are indexed as if they were flat. Eight vectors of two words
    are interleaved byte by byte, four times: then each holds one byte of all of them.
    """
    if not isinstance(words, types.Array) or not isinstance(nibbles, types.Array):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        half = ir.VectorType(ir.IntType(8), CELLS // 2)

        def constant(number):  # type: ignore[no-untyped-def]
            return ir.Constant(ir.IntType(64), number)

        def mixed(one, other, chosen):  # type: ignore[no-untyped-def]
            return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_WORD, CELLS), chosen))

        def two_words(first):  # type: ignore[no-untyped-def]
            place = builder.add(arguments[1], constant(first))
            return _vector(builder, _place(context, builder, words, arguments[0], place), half)

        # Instructions work on halves of a vector: the second half holds the second 16 words.
        vectors = [mixed(two_words(2 * i), two_words(16 + 2 * i), list(range(CELLS))) for i in range(8)]
        lower = [start + j + side for start in (0, 16) for j in range(8) for side in (0, CELLS)]
        upper = [place + 8 for place in lower]
        for _ in range(4):
            pairs = list(zip(vectors[:4], vectors[4:], strict=True))
            vectors = [mixed(one, other, chosen) for one, other in pairs for chosen in (lower, upper)]
        four, fifteen = (ir.Constant(_BYTES, [number] * CELLS) for number in (4, 15))
        place = arguments[3]
        for vector in vectors:
            for nibble in (builder.and_(vector, fifteen), builder.lshr(vector, four)):
                _store(builder, nibble, _place(context, builder, nibbles, arguments[2], place))
                place = builder.add(place, arguments[4])
        return context.get_dummy_value()

    return types.void(words, types.intp, nibbles, types.intp, types.intp), generate


def _look_up(onto: bool) -> Callable[..., None]:
    """Return an intrinsic that looks up eight nibbles of many cells; `onto`: their sums are added to what is there."""

    def look_up(typingctx, nibbles, first, table, start, out):  # type: ignore[no-untyped-def]
        """Write the sums for 8 rows of nibbles to out[0 : cells rounded down to 32s].

        nibbles: uint8 [N, cells], C order; rows from `first` on; table: uint8, as `tables` of one cell, rows from
        `start` on; out: uint8.
        """
        if not all(isinstance(array, types.Array) for array in (nibbles, table, out)):
            return None

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_BYTES, [_BYTES, _BYTES]), "llvm.x86.avx2.pshuf.b"
            )
            size = arguments[1].type
            cells = builder.extract_value(context.make_array(nibbles)(context, builder, arguments[0]).shape, 1)

            def behind(row, by, length):  # type: ignore[no-untyped-def]
                return builder.mul(builder.add(row, ir.Constant(size, by)), length)

            held, rows = [], []
            for each in range(HELD):
                place = behind(arguments[3], each, ir.Constant(size, CELLS))
                held.append(_vector(builder, _place(context, builder, table, arguments[2], place), _BYTES))
                rows.append(behind(arguments[1], each, cells))
            blocks = builder.udiv(cells, ir.Constant(size, CELLS))
            with cgutils.for_range(builder, blocks) as loop:
                at = builder.mul(loop.index, ir.Constant(size, CELLS))
                target = _place(context, builder, out, arguments[4], at)
                sums = [_vector(builder, target, _BYTES)] if onto else []
                for row, counts in zip(rows, held, strict=True):
                    pointer = _place(context, builder, nibbles, arguments[0], builder.add(row, at))
                    sums.append(builder.call(function, [counts, _vector(builder, pointer, _BYTES)]))
                while len(sums) > 1:
                    sums = [builder.add(*sums[i : i + 2]) if i + 1 < len(sums) else sums[i]
                            for i in range(0, len(sums), 2)]  # fmt: skip
                _store(builder, sums[0], target)
            return context.get_dummy_value()

        return types.void(nibbles, types.intp, table, types.intp, out), generate

    compiled: Callable[..., None] = intrinsic(look_up)
    return compiled


@intrinsic
def add_six(typingctx, planes, first, second, third, fourth, fifth, sixth, sums):  # type: ignore[no-untyped-def]
    """Add six runs of a uint8 array to a uint16 array, whose length is a multiple of 32.

    Each run begins at the number given, counted flat, and three of them are at most 255 together: they are added as
    bytes, so that a third of them is widened.
    """
    if not isinstance(planes, types.Array) or not isinstance(sums, types.Array):
        return None

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide = ir.VectorType(ir.IntType(16), CELLS)
        size = arguments[1].type
        length = builder.extract_value(context.make_array(sums)(context, builder, arguments[7]).shape, 0)
        starts = [_place(context, builder, planes, arguments[0], at) for at in arguments[1:7]]
        with cgutils.for_range(builder, builder.udiv(length, ir.Constant(size, CELLS))) as loop:
            at = builder.mul(loop.index, ir.Constant(size, CELLS))
            runs = [_vector(builder, builder.gep(start, [at]), _BYTES) for start in starts]
            threes = [builder.add(builder.add(*runs[i : i + 2]), runs[i + 2]) for i in (0, 3)]
            added = builder.add(*(builder.zext(three, wide) for three in threes))
            target = _place(context, builder, sums, arguments[7], at)
            _store(builder, builder.add(_vector(builder, target, wide), added), target)
        return context.get_dummy_value()

    return types.void(planes, *[types.intp] * 6, sums), generate


look_up = _look_up(False)
look_up_onto = _look_up(True)
