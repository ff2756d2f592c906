"""A segment: flat arrays of some rows of the store, in row order, memory-mapped or in memory.

    segment.json        format, bundle, generations, shapes
    rows.bin            int64 [N], row numbers of the store, ascending
    added.bin           int64 [N], ascending
    ids.bin             uint8 [N, 16]
    codes.bin           uint8 [N, bits / 8]
    content.bin         int8 [N, D]; cross-modal embeddings are int16, in fixed point
    cells.bin           uint64 [N, 14, 14, L / 64]      where the bundle has local codes
    cell_mask.bin       uint8 [N, 25], np.packbits
    images.bin          int64 [N], for texts: the row of the image each belongs to, ascending
    lengths.bin         int32 [N], for texts: how many words each has
    coded.bin           uint8 [N], for texts: 1 where it has a cross-modal code
    <column>.bin        codes of a dictionary column
    <column>.values     its values: JSON, or 32-byte strings for keyed hashes
    checks.bin          uint32, the checksums of all of these, block by block, in the order of their names

A segment never changes. Which of its rows live as of a generation is the index's knowledge.
"""

import contextlib
import io
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from medlike import files as durable
from medlike import strict_json
from medlike.archive.index.checks import Checked, Rows, rows_of_a_block, sealed, sums, unsealed
from medlike.archive.index.columns import Column, Value, narrowest, usable
from medlike.archive.storage.rows import FILTER_COLUMNS, NUMBER_COLUMNS, EncodingRow, ImageRow, TextFacts
from medlike.codes.buckets import BucketTable
from medlike.errors import ArchiveError
from medlike.types import Array, JsonObject, Mask, Type

FORMAT = 2  # 1 had no checksums
FILE = "segment.json"
CHECKS = "checks.bin"
LARGEST = 1 << 20  # bytes of it
_CODES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))
UNIT = 1 << 14  # 1.0 in the fixed point of embeddings
HASH_COLUMNS = ("study", "series", "patient")
# A row of the store as a segment takes it; the last is there for texts only.
Row = tuple[ImageRow, EncodingRow, TextFacts | None]
_ALL_VALID = b"\xff" * 25
CHUNK = 4096  # rows handled at a time while building
_PIECE = 1 << 18  # bytes of a column read at a time


@dataclass(frozen=True)
class Layout:
    """Widths of a bundle's arrays. bits: of the global code; content: D; local: L, or None.

    of: "" for the images under an image bundle; under a text bundle "pictures" (the images' cross-modal codes)
    or "texts" (the texts' own). For these the content is the embedding in fixed point (int16, UNIT is 1).
    fit: digest of the fit that codes and content come from, None for the bundle's own.
    """

    bundle: str
    bits: int
    content: int
    local: int | None = None
    of: str = ""
    fit: str | None = None

    @property
    def key(self) -> str:
        """What the files say that they are of."""
        return self.bundle if self.fit is None else f"{self.bundle}-{self.fit}"

    @property
    def folder(self) -> str:
        """Name of the folder in index/."""
        if self.fit is not None:
            return f"{self.bundle[:16]}-{self.fit[:16]}"
        return f"{self.bundle[:16]}-{self.of}" if self.of else self.bundle[:16]

    def arrays(self) -> dict[str, tuple[Type, tuple[int, ...]]]:
        """Name -> type and shape of one row."""
        arrays: dict[str, tuple[Type, tuple[int, ...]]] = {
            "rows": (np.dtype("<i8"), ()),
            "added": (np.dtype("<i8"), ()),
            "ids": (np.dtype("u1"), (16,)),
            "codes": (np.dtype("u1"), (self.bits // 8,)),
            "content": (np.dtype("<i2" if self.of else "i1"), (self.content,)),
        }
        if self.of == "texts":
            arrays |= {"images": (np.dtype("<i8"), ()), "lengths": (np.dtype("<i4"), ()), "coded": (np.dtype("u1"), ())}
        if self.local:
            arrays["cells"] = (np.dtype("<u8"), (14, 14, self.local // 64))
            arrays["cell_mask"] = (np.dtype("u1"), (25,))
        return arrays


class Segment:
    """Hold the rows added in the generations (since, until], with the arrays that the module's docstring lists."""

    def __init__(
        self,
        layout: Layout,
        since: int,
        until: int,
        arrays: dict[str, Array],
        values: dict[str, Array],
        folder: Path | None = None,
        checks: Mapping[str, Checked] | None = None,
    ) -> None:
        """checks: of the arrays and values that lie in files, by the name of the file."""
        self.layout = layout
        self.since = since
        self.until = until
        self.folder = folder
        self._arrays = arrays
        self._values = values
        self._checks = checks or {}
        self._columns: dict[str, Column] = {}
        self._table: BucketTable | None = None

    def __len__(self) -> int:
        return len(self._arrays["rows"])

    def array(self, name: str, rows: Rows | None = None) -> Array:
        """Return one of the arrays of the layout.

        Args:
            name: Its name.
            rows: Positions that the caller looks at, so that only their blocks are compared with the checksums; all
                unless given.

        Raises:
            IndexDamaged: The file is not what was written.
        """
        check = self._checks.get(f"{name}.bin")
        return self._arrays[name] if check is None else check.array(rows)

    def damaged(self) -> list[Path]:
        """Compare every block with its checksum, whatever was compared before, and return the damaged files."""
        return [check.path for check in self._checks.values() if not check.sound()]

    @property
    def images(self) -> NDArray[np.int64]:
        """int64 [N]: the store's row of the image that each row is, or belongs to; ascending."""
        return self.array("images" if self.layout.of == "texts" else "rows")

    @property
    def table(self) -> BucketTable:
        """The rows by code, for codes of 16 bits; made on first use and kept."""
        if self._table is None:
            self._table = BucketTable.of(np.ascontiguousarray(self.array("codes")))
        return self._table

    def column(self, name: str) -> Column:
        """Return a dictionary column; its values are read on first use."""
        if name not in self._columns:
            check = self._checks.get(f"{name}.values")
            if check is not None:
                check.array()
            stored = self._values[name]
            values = stored if name in HASH_COLUMNS else strict_json.loads(stored.tobytes())
            self._columns[name] = Column(self.array(name), values)
        return self._columns[name]

    @classmethod
    def open(cls, folder: Path, layout: Layout) -> "Segment":
        """Map a segment's files.

        Raises:
            ArchiveError: A file is missing or has another size than stated.
        """
        try:
            facts = unsealed(durable.read(folder / FILE, LARGEST))
            if facts["format"] != FORMAT or facts["bundle"] != layout.key:
                raise ArchiveError(f"{folder} is of another format or bundle: run `medlike verify`")
            stated = {name: (np.dtype(kind), tuple(shape)) for name, (kind, shape) in facts["arrays"].items()}
            _require_layout(stated, layout)
            arrays = {name: _map(folder / f"{name}.bin", kind, shape) for name, (kind, shape) in stated.items()}
            sizes = facts["values"]
            texts = {
                name: _map(folder / f"{name}.values", np.dtype("u1"), (sizes[name],)) for name in FILTER_COLUMNS
            }
            values = {name: text.view(_value_type(name)) for name, text in texts.items()}
            checks = _checks(folder, arrays, texts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArchiveError(f"{folder} is damaged ({error}): run `medlike verify`") from error
        return cls(layout, facts["since"], facts["until"], arrays, values, folder, checks)


class SegmentWriter:
    """Builds a segment row by row or segment by segment; in memory, or in a folder as it goes."""

    def __init__(self, layout: Layout, folder: Path | None = None) -> None:
        self.layout = layout
        self.folder = folder
        self._counts = dict.fromkeys([*layout.arrays(), *FILTER_COLUMNS], 0)
        self._codes: dict[str, dict[Value | None, int]] = {name: {None: 0} for name in FILTER_COLUMNS}
        if folder is not None:
            durable.make_folder(folder)
        with self._disk_errors():
            self._files = {name: self._opened(name) for name in self._counts}

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows of the store, ascending."""
        images = [row[0] for row in rows]
        encodings = [row[1] for row in rows]
        fields: JsonObject = {
            "rows": [image.row for image in images],
            "added": [image.added for image in images],
            "ids": b"".join(bytes.fromhex(image.id) for image in images),
            "codes": b"".join(encoding.code for encoding in encodings),
            "content": b"".join(encoding.content for encoding in encodings),
        }
        if self.layout.local:
            side = 14 * 14 * self.layout.local // 8
            fields["cells"] = b"".join(encoding.cells or bytes(side) for encoding in encodings)
            fields["cell_mask"] = b"".join(encoding.cell_mask or _ALL_VALID for encoding in encodings)
        if self.layout.of == "texts":
            texts = [text for _, _, text in rows if text is not None]
            fields |= {name: [getattr(text, name) for text in texts] for name in ("images", "lengths", "coded")}
        for name, (kind, shape) in self.layout.arrays().items():
            values = fields[name]
            array = np.frombuffer(values, kind) if isinstance(values, bytes) else np.asarray(values, kind)
            try:
                self._append(name, array.reshape(len(rows), *shape))
            except ValueError:
                raise ArchiveError(
                    f"rows {images[0].row} to {images[-1].row}: {name} has another size than the bundle's: "
                    "run `medlike verify`, then `medlike reindex`"
                ) from None
        for name in FILTER_COLUMNS:
            known = self._codes[name]
            number = name in NUMBER_COLUMNS
            codes = [known.setdefault(usable(getattr(image, name), number), len(known)) for image in images]
            self._append(name, np.asarray(codes, "<u4"))

    def copy(self, segment: Segment) -> None:
        """Append the rows of a segment, and join the dictionaries."""
        tables = {}
        for name in FILTER_COLUMNS:
            known, column = self._codes[name], segment.column(name)
            values = (value.decode() if isinstance(value, bytes) else value for value in column.values)
            tables[name] = np.asarray([0, *(known.setdefault(value, len(known)) for value in values)], dtype="<u4")
        for start in range(0, len(segment), CHUNK):
            part = slice(start, start + CHUNK)
            for name in self.layout.arrays():
                self._append(name, segment.array(name)[part])
            for name, table in tables.items():
                self._append(name, table[segment.column(name).codes[part]])

    def finish(self, since: int, until: int) -> Segment:
        """Sort the dictionaries, make everything durable, and open the segment."""
        arrays: dict[str, tuple[str, tuple[int, ...]]] = {}
        values: dict[str, bytes] = {}
        for name in FILTER_COLUMNS:
            # A value is kept only where a row still has it: what was erased must not live on in a dictionary.
            used = self._used(name)
            known = sorted(value for value, code in self._codes[name].items() if value is not None and used[code])
            table = np.zeros(len(self._codes[name]), narrowest(len(known)))
            for new, value in enumerate(known, 1):
                table[self._codes[name][value]] = new
            self._recode(name, table)
            values[name] = "".join(map(str, known)).encode() if name in HASH_COLUMNS else json.dumps(known).encode()
            arrays[name] = (table.dtype.str, (self._counts[name],))
        for name, (kind, shape) in self.layout.arrays().items():
            arrays[name] = (kind.str, (self._counts[name], *shape))
        if self.folder is None:
            loaded = {}
            for name, (kind_name, full) in arrays.items():
                self._files[name].seek(0)
                loaded[name] = np.frombuffer(self._files[name].read(), kind_name).reshape(full)
            loose = {name: np.frombuffer(data, _value_type(name)) for name, data in values.items()}
            return Segment(self.layout, since, until, loaded, loose)
        with self._disk_errors():
            for file in self._files.values():
                file.close()
            durable.sync_files(self.folder / f"{name}.bin" for name in self._files)
        for name, data in values.items():
            durable.write(self.folder / f"{name}.values", data, sync_folder=False)
        with self._disk_errors():
            stored = {
                name: _map(self.folder / f"{name}.bin", np.dtype(kind), shape) for name, (kind, shape) in arrays.items()
            }
            texts = {name: np.frombuffer(data, np.uint8) for name, data in values.items()}
            parts = [sums(array) for _, array in _in_order(stored, texts)]
        durable.write(self.folder / CHECKS, np.concatenate(parts).tobytes(), sync_folder=False)
        facts = {
            "format": FORMAT, "bundle": self.layout.key, "since": since, "until": until,
            "arrays": arrays, "values": {name: len(data) for name, data in values.items()},
        }  # fmt: skip
        durable.write(self.folder / FILE, sealed(facts))
        return Segment.open(self.folder, self.layout)

    def abandon(self) -> None:
        """Delete what was written."""
        if self.folder is not None:
            for file in self._files.values():
                # What a full disk did not take is still waiting.
                with contextlib.suppress(OSError):
                    file.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _disk_errors(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.folder is None else durable.disk_errors(self.folder)

    def _opened(self, name: str) -> BinaryIO:
        if self.folder is None:
            return io.BytesIO()
        return os.fdopen(durable.create(self.folder / f"{name}.bin", flags=os.O_TRUNC), "w+b")

    def _append(self, name: str, array: Array) -> None:
        self._counts[name] += len(array)
        with self._disk_errors():
            self._files[name].write(np.ascontiguousarray(array).data)

    def _pieces(self, name: str) -> Iterator[Array]:
        """Yield the codes of a column; the caller may move in the file in between."""
        file = self._files[name]
        for start in range(0, 4 * self._counts[name], _PIECE):
            file.seek(start)
            yield np.frombuffer(file.read(_PIECE), "<u4")

    def _used(self, name: str) -> Mask:
        used = np.zeros(len(self._codes[name]), bool)
        with self._disk_errors():
            for piece in self._pieces(name):
                used[piece] = True
        return used

    def _recode(self, name: str, table: Array) -> None:
        """Replace codes by those of a table, in place: a new code is never longer than the old one."""
        file, end = self._files[name], 0
        with self._disk_errors():
            for piece in self._pieces(name):
                file.seek(end)
                end += file.write(table[piece].data)
            file.truncate(end)


def _in_order(arrays: Mapping[str, Array], values: Mapping[str, Array]) -> list[tuple[str, Array]]:
    """Return the files of a segment by name, each with its content, in the order of their checksums."""
    files = {f"{name}.bin": array for name, array in arrays.items()}
    files |= {f"{name}.values": array for name, array in values.items()}
    return sorted(files.items())


def _checks(folder: Path, arrays: Mapping[str, Array], values: Mapping[str, Array]) -> dict[str, Checked]:
    """Return the checks of a segment's files, by name. Raises ValueError or OSError if the checksums are missing."""
    files = _in_order(arrays, values)
    counts = [-(-len(array) // rows_of_a_block(array)) for _, array in files]
    expected = _map(folder / CHECKS, np.dtype("<u4"), (sum(counts),))
    ends = np.cumsum(counts)
    return {
        name: Checked(folder / name, array, expected[end - count : end])
        for (name, array), count, end in zip(files, counts, ends, strict=True)
    }


def _value_type(name: str) -> str:
    """Return the type of the values of a dictionary column, as a file holds them."""
    return "S32" if name in HASH_COLUMNS else "u1"


def _require_layout(stated: dict[str, tuple[Type, tuple[int, ...]]], layout: Layout) -> None:
    """Raise ValueError where a segment's arrays are not exactly those of the layout, all of one length."""
    expected = layout.arrays()
    if set(stated) != {*expected, *FILTER_COLUMNS}:
        raise ValueError("its arrays are not those of the bundle")
    rows = stated["rows"][1][:1]
    for name, (kind, shape) in stated.items():
        known = (expected[name][0],) if name in expected else _CODES
        inner = expected[name][1] if name in expected else ()
        if kind not in known or shape != (*rows, *inner) or not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"{name} is stated as {kind} {shape}")


def _map(path: Path, kind: Type, shape: tuple[int, ...]) -> Array:
    facts = path.lstat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError(f"{path.name} is no regular file")
    expected = math.prod(shape) * kind.itemsize
    if facts.st_size != expected:
        raise ValueError(f"{path.name} has {facts.st_size} bytes, not {expected}")
    if expected == 0:
        return np.empty(shape, kind)
    # A plain array over the map: np.memmap's own class slows every slice.
    return np.asarray(np.memmap(path, kind, "r", shape=shape))
