"""What an index is derived from: the images of a store, or the texts that belong to them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medlike.archive.index.segment import CHUNK, Row
from medlike.archive.storage.database import require_sound, storage_errors
from medlike.archive.storage.rows import EncodingRow, ImageRow, TextFacts
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit
from medlike.errors import ArchiveError

_COLUMNS = tuple(name for name in ImageRow.__dataclass_fields__ if name not in ("row", "facts", "metadata"))


class Rows(Protocol):
    """Numbered rows that never change, and that live as the store's images do."""

    def rows(self, since: int, until: int) -> Iterator[Row]:
        """Those added in the generations (since, until], ascending by number."""

    def removals(self, since: int, until: int) -> Sequence[tuple[int, int]]:
        """(number, generation) of those removed in (since, until], ascending by number."""

    def count(self, since: int) -> int:
        """How many were added after a generation."""

    def present(self) -> NDArray[np.int64]:
        """The numbers that the store holds."""


class StoredImages:
    """The images of a store that are encoded under a bundle (its digest)."""

    def __init__(self, store: Store, bundle: str) -> None:
        self.store, self.bundle = store, bundle

    def rows(self, since: int, until: int) -> Iterator[Row]:
        """Yield the rows added in (since, until], ascending."""
        for image, encoding in self.store.rows(self.bundle, since, until):
            yield image, encoding, None

    def removals(self, since: int, until: int) -> Sequence[tuple[int, int]]:
        """Return (row, generation) of the rows removed in (since, until]."""
        return self.store.removals(since, until)

    def count(self, since: int) -> int:
        """Return how many rows were added after a generation."""
        return self.store.number("SELECT count(*) FROM images WHERE added > ?", (since,))

    def present(self) -> NDArray[np.int64]:
        """Return the numbers that the store holds."""
        return _numbers(self.store, "SELECT row FROM images")


class FittedImages(StoredImages):
    """The images of a store with the codes and the fitted vectors of a fit in place of their code and content."""

    def __init__(
        self, store: Store, bundle: str, fit: Fit, recoded: Callable[[int], None] = lambda rows: None
    ) -> None:
        """recoded: called with the number of rows that have been recoded since its last call."""
        super().__init__(store, bundle)
        self.fit, self.recoded = fit, recoded

    def rows(self, since: int, until: int) -> Iterator[Row]:
        """Yield the rows added in (since, until], ascending."""
        rows = super().rows(since, until)
        while page := list(islice(rows, CHUNK)):
            contents = b"".join(encoding.content for _, encoding, _ in page)
            if len(contents) != len(page) * sum(self.fit.widths):
                raise ArchiveError(
                    f"rows {page[0][0].row} to {page[-1][0].row}: content has another size than the fit's: "
                    "run `medlike verify`, then `medlike fit`"
                )
            self.recoded(len(page))
            codes, vectors = self.fit.encode(np.frombuffer(contents, np.int8).reshape(len(page), -1))
            for at, (image, encoding, text) in enumerate(page):
                # What an index takes of an encoding; `replace` would cost more than recoding.
                derived = codes[at].tobytes(), vectors[at].tobytes(), encoding.cells, encoding.cell_mask
                yield image, EncodingRow(*derived), text


class StoredTexts:
    """The texts of a store, with the columns of their images; their codes under a text bundle where there is one.

    width: of a code and of an embedding in bytes; a text that is not encoded has zeros there.
    """

    def __init__(self, store: Store, bundle: str | None, width: tuple[int, int] = (0, 0)) -> None:
        self.store, self.bundle = store, bundle
        self._nothing = EncodingRow(bytes(width[0]), bytes(width[1]))

    def rows(self, since: int, until: int) -> Iterator[Row]:
        """Yield the rows added in (since, until], ascending."""
        columns = ", ".join(f"images.{name}" for name in _COLUMNS)
        coded, join = "NULL, NULL", ""
        if self.bundle is not None:
            coded = "crossed.code, crossed.embedding"
            join = "LEFT JOIN text_encodings crossed ON crossed.number = texts.number AND crossed.bundle = :bundle"
        checked = f"{self.store.sound('texts')} AND {self.store.sound('images')}"
        sql = (
            f"SELECT texts.number, texts.row, sizes.sz, {coded}, {checked}, {columns} FROM texts "
            "CROSS JOIN images ON images.row = texts.row "
            f"LEFT JOIN words_docsize sizes ON sizes.id = texts.number {join} "
            "WHERE texts.number > :last AND images.added > :since AND images.added <= :until "
            "ORDER BY texts.number LIMIT :size"
        )
        # Texts are numbered in the order of their images, these in the order of their generations.
        first = self.store.number(
            "SELECT min(number) FROM texts WHERE row >= (SELECT min(row) FROM images WHERE added > ?)", (since,)
        )
        if not first:
            return
        for page in self.store.pages(sql, {"bundle": self.bundle, "since": since, "until": until}, first - 1):
            for number, row, size, code, embedding, sound, *values in page:
                require_sound(self.store.path, "texts", number, sound)
                image = ImageRow(number, *values)
                encoding = self._nothing if code is None else EncodingRow(code, embedding)
                yield image, encoding, TextFacts(row, varint(size), int(code is not None))

    def removals(self, since: int, until: int) -> Sequence[tuple[int, int]]:
        """Return (row, generation) of the rows removed in (since, until]."""
        sql = (
            "SELECT texts.number, images.removed FROM images JOIN texts ON texts.row = images.row "
            "WHERE images.removed > ? AND images.removed <= ? ORDER BY texts.number"
        )
        return [(number, removed) for number, removed in self.store.query(sql, (since, until))]

    def count(self, since: int) -> int:
        """Return how many rows were added after a generation."""
        sql = "SELECT count(*) FROM images JOIN texts ON texts.row = images.row WHERE images.added > ?"
        return self.store.number(sql, (since,))

    def present(self) -> NDArray[np.int64]:
        """Return the numbers that the store holds."""
        return _numbers(self.store, "SELECT number FROM texts")


def varint(size: bytes | None) -> int:
    """Return how many words FTS5 counted in a text: a variable-length integer, seven bits a byte, the highest first."""
    value = 0
    for byte in size or b"":
        value = value << 7 | byte & 0x7F
    return value


def _numbers(store: Store, sql: str) -> NDArray[np.int64]:
    with storage_errors(store.path):
        return np.fromiter((number for (number,) in store.connection.execute(sql)), np.int64)
