"""Checksums of the index's files: a bit that a disk flips is an error, never another answer.

Every block of rows has a CRC-32, which finds each flipped bit and each burst of up to 32 bits. A block is compared
once in a process, when a search first touches it, so that opening a large index reads none of it.
"""

import hashlib
import itertools
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medlike import strict_json
from medlike.codes.threads import share
from medlike.errors import ArchiveError
from medlike.types import Array, Json, JsonObject

BLOCK = 1 << 16  # bytes of a block, about
SEAL = "check"  # field of a JSON file that holds the digest of the others
Rows = NDArray[np.int64] | int


class IndexDamaged(ArchiveError):
    """Raised if a file of the index is not what was written; the index is then built anew from the store."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        super().__init__(f"{path} is damaged: the index is built anew from the store; run it again")
        self.folder = path.parent.parent  # of the index that the segment belongs to


def sums(array: Array) -> NDArray[np.uint32]:
    """Return the checksums of an array's blocks: uint32 [blocks], little-endian."""
    step = rows_of_a_block(array)
    starts = range(0, len(array), step)
    return np.fromiter((zlib.crc32(_bytes(array[start : start + step])) for start in starts), "<u4", len(starts))


def rows_of_a_block(array: Array) -> int:
    """Return how many rows of an array share a checksum."""
    return max(1, BLOCK * len(array) // max(array.nbytes, 1))


class Checked:
    """A mapped array whose blocks are compared with their checksums before they are used. Safe for many threads."""

    def __init__(self, path: Path, array: Array, expected: NDArray[np.uint32]) -> None:
        self.path, self.data, self.expected = path, array, expected
        self.step = rows_of_a_block(array)
        self._sound = np.zeros(len(expected), bool)
        self._all = not len(expected)

    def array(self, rows: Rows | None = None) -> Array:
        """Return the whole array once the blocks that hold some rows are compared; all blocks without `rows`.

        Raises:
            IndexDamaged: A block differs from its checksum.
        """
        if not self._all:
            self._compare(rows)
        return self.data

    def sound(self) -> bool:
        """Return whether all blocks are what was written, as they are now."""
        return bool((sums(self.data) == self.expected).all())

    def _compare(self, rows: Rows | None) -> None:
        if rows is None:
            blocks = np.flatnonzero(~self._sound)
        else:
            touched = np.atleast_1d(np.asarray(rows)) // self.step
            blocks = np.unique(touched[~self._sound[touched]])

        def worker(counter: "itertools.count[int]") -> None:
            while (turn := next(counter)) < len(blocks):
                block = int(blocks[turn])
                start = block * self.step
                if zlib.crc32(_bytes(self.data[start : start + self.step])) != self.expected[block]:
                    raise IndexDamaged(self.path)
                self._sound[block] = True

        share(1 + len(blocks) // 64, worker)
        self._all = bool(self._sound.all())


def sealed(facts: Mapping[str, Json]) -> bytes:
    """Return a JSON document that holds its own digest."""
    return json.dumps({**facts, SEAL: _digest(facts)}).encode()


def unsealed(document: bytes) -> JsonObject:
    """Return what `sealed` packed. Raises ValueError if it is another document."""
    facts = strict_json.loads(document)
    if not isinstance(facts, dict) or facts.pop(SEAL, None) != _digest(facts):
        raise ValueError("it is not what was written")
    return facts


def _digest(facts: Mapping[str, Json]) -> str:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
