"""The bucket table: exact Hamming search for 16-bit codes by looking up codes instead of scanning rows.

65,536 possible codes are few beside millions of rows. Rows are kept sorted by code; a query looks at its own
bucket, then at those one bit away, and so on, until it has enough.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from medlike.errors import QueryError
from medlike.types import I32, I64, Array

BITS = 16
_FEW = 64  # buckets that are looked at one by one; more are looked at together


@dataclass(frozen=True)
class BucketTable:
    """Rows by code. order: int32 or int64 [N], rows sorted by (code, row); starts: int64 [65537], into order."""

    order: Array
    starts: NDArray[np.int64]

    @staticmethod
    def of(codes: NDArray[np.uint8]) -> "BucketTable":
        """Build the table from codes uint8 [N, 2]. Raises QueryError for other widths."""
        if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != BITS // 8:
            raise QueryError(f"codes are {codes.dtype} {list(codes.shape)}: a bucket table takes uint8 [N, 2]")
        numbers = _numbers(codes)
        # 16 bits are sorted by counting.
        order = np.argsort(numbers.astype(np.uint16), kind="stable")
        if len(codes) < 2**31:
            order = order.astype(np.int32)
        counts = np.bincount(numbers, minlength=1 << BITS)
        return BucketTable(order, np.concatenate([[0], np.cumsum(counts)]))

    def __len__(self) -> int:
        return len(self.order)

    def nearest(
        self, query: NDArray[np.uint8], k: int, mask: NDArray[np.bool_] | None = None, radius: int | None = None
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the k nearest rows, ordered by (distance, row), as `hamming.nearest` does.

        Args:
            query: uint8 [2].
            k: Number of rows.
            mask: bool [N]; only rows that are True can be returned.
            radius: Largest distance returned.

        Returns:
            Distances int32 [m] and rows int64 [m].
        """
        query = np.asarray(query)
        if query.dtype != np.uint8 or query.shape != (BITS // 8,):
            raise QueryError(f"the query code is {query.dtype} {list(query.shape)}: it must be uint8 [2]")
        if k < 0:
            raise QueryError(f"k is {k}: ask for 0 or more hits")
        if mask is not None and (mask.dtype != np.bool_ or mask.shape != (len(self),)):
            raise QueryError(f"the mask is {mask.dtype} {list(mask.shape)}: it must be bool [{len(self)}]")
        code = int(_numbers(query[None])[0])
        near: list[I32] = [np.empty(0, np.int32)]
        rows: list[I64] = [np.empty(0, np.int64)]
        count = 0
        for distance, flips in enumerate(_rings()):
            if count >= k or (radius is not None and distance > radius):
                break
            ring = self._ring(flips ^ code, k - count, mask)
            near.append(np.full(len(ring), distance, np.int32))
            rows.append(ring)
            count += len(ring)
        return np.concatenate(near), np.concatenate(rows)

    def nearest_and_more(
        self, query: NDArray[np.uint8], k: int, mask: NDArray[np.bool_] | None = None, room: int = 1 << 15
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
        """Return the k nearest rows with all that are as near as the last of them, as `hamming.nearest_and_more` does.

        Returns:
            Distances int32 [m], rows int64 [m], ordered by (distance, row), and the distance up to which they are
            complete: one less than that of the last row if its ties are more than `room`.
        """
        near, rows = self.nearest(query, k, mask)
        if len(near) < k or not k:
            return near, rows, BITS if k else -1
        last = int(near[-1])
        ring = _rings()[last] ^ int(_numbers(np.asarray(query)[None])[0])
        if int((self.starts[ring + 1] - self.starts[ring]).sum()) > room:
            return near, rows, last - 1
        nearer = near < last
        ties = self._ring(ring, len(self), mask).astype(np.int64)
        distances = np.concatenate([near[nearer], np.full(len(ties), last, np.int32)])
        return distances, np.concatenate([rows[nearer], ties]), last

    def _ring(self, codes: NDArray[np.int64], k: int, mask: NDArray[np.bool_] | None) -> Array:
        """Return the first k rows, ascending, that have one of some codes."""
        starts, stops = self.starts[codes], self.starts[codes + 1]
        if mask is None:
            # Rows ascend within a bucket: no more than k of one can matter.
            stops = np.minimum(stops, starts + k)
        filled = stops > starts
        starts, stops = starts[filled], stops[filled]
        if len(starts) <= _FEW:
            pieces = [self.order[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
            rows = np.concatenate(pieces) if pieces else self.order[:0]
        else:
            lengths = stops - starts
            ends = np.cumsum(lengths)
            within = np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)
            rows = self.order[np.repeat(starts, lengths) + within]
        if mask is not None:
            rows = rows[mask[rows]]
        if len(rows) > k:
            rows = np.partition(rows, k)[:k] if k else rows[:0]
        return np.sort(rows)


def _numbers(codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    return codes[:, 0].astype(np.int64) << 8 | codes[:, 1]


@cache
def _rings() -> tuple[NDArray[np.int64], ...]:
    """Return all 16-bit numbers, grouped by how many bits are set in them, 0 to 16."""
    numbers = np.arange(1 << BITS)
    bits = np.bitwise_count(numbers)
    return tuple(numbers[bits == number] for number in range(BITS + 1))
