"""A large archive without images: rows written straight into its store, to time what comes after."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medlike import Archive, Query, Result
from medlike.archive.index.index import Index
from medlike.archive.storage import digests
from medlike.archive.storage.creation import create
from medlike.archive.storage.folder import BundleFacts, TextBundleFacts
from medlike.archive.storage.identity import LINKS_SINCE

CONTENT = 64
PAGE = 50_000

_IMAGE = (
    "INSERT INTO images"
    "(row, id, added, modality, label, width, height, frame, frames, pixels, kind, facts, metadata)"
    " VALUES (?, ?, ?, 'CT', ?, 512, 512, 0, 1, ?, 'reference', '{}', ?)"
)
_ENCODING = "INSERT INTO encodings(row, bundle, code, content) VALUES (?, ?, ?, ?)"


class Populated:
    """An archive whose images were never there. Ids are row numbers in hexadecimal."""

    def __init__(self, archive: Archive, facts: BundleFacts) -> None:
        self.archive = archive
        self.facts = facts
        self.rows = 0
        self._random = np.random.default_rng(0)

    @property
    def index(self) -> Index:
        """The archive's index."""
        return self.archive._indexes.images

    def stored_id(self, row: int) -> str:
        """The id of a row, counted from 0."""
        return f"{row + 1:032x}"

    def search(self, id: str, label: str | None = None, k: int = 100) -> Result:
        """A search by content, with a filter from as the user gives it to the metadata of the hits."""
        return self.archive.search(Query(id=id), k=k, rank="content", where={"label": label} if label else None)

    def add(
        self, codes: NDArray[np.uint8], labels: Sequence[str] | None = None, given: NDArray[np.int8] | None = None
    ) -> None:
        """Append rows of codes uint8 [N, B], with one label each, in commits of 50,000.

        given: content vectors int8 [N, D]; drawn at random unless given.
        """
        for start in range(0, len(codes), PAGE):
            part = codes[start : start + PAGE]
            named = labels[start : start + PAGE] if labels else ["a"] * len(part)
            rows = range(self.rows + 1, self.rows + 1 + len(part))
            content = (
                self._random.integers(-127, 128, (len(part), CONTENT), dtype=np.int8)
                if given is None
                else given[start : start + PAGE]
            )
            with self.archive._store.commit("add") as commit:
                commit.connection.executemany(
                    _IMAGE,
                    (
                        (row, f"{row:032x}", commit.generation, label, f"{row:064x}", f'{{"label": "{label}"}}')
                        for row, label in zip(rows, named, strict=True)
                    ),
                )
                commit.connection.executemany(
                    _ENCODING,
                    ((row, self.facts.digest, part[i].tobytes(), content[i].tobytes()) for i, row in enumerate(rows)),
                )
                for table in ("images", "encodings"):
                    digests.seal(commit.connection, table, "row >= ?", (rows.start,))
            self.rows += len(part)


@contextmanager
def populated(
    folder: str | Path,
    codes: NDArray[np.uint8],
    labels: Sequence[str],
    text: TextBundleFacts | None = None,
    content: NDArray[np.int8] | None = None,
    facts: BundleFacts | None = None,
) -> Iterator[Populated]:
    """Write an archive of codes uint8 [N, B] with one label each, and its index.

    text: the bundle it names. content: int8 [N, D], drawn at random unless given. facts: those of the image bundle that
    it names, as wide as codes and content; of one that does not exist unless given.
    """
    path = Path(folder) / "archive"
    width = CONTENT if content is None else content.shape[1]
    facts = facts or BundleFacts(name="bench", digest="be" * 32, bits=8 * codes.shape[1], content_dim=width)
    with Archive(create(path, facts, False, text)) as archive:
        made = Populated(archive, facts)
        archive._store.connection.execute("PRAGMA synchronous=OFF")
        # No image ever has a link to where it came from.
        archive._store.connection.execute("INSERT INTO settings VALUES (?, ?)", (LINKS_SINCE, str(1 << 62)))
        made.add(codes, labels, content)
        archive._store.connection.execute("PRAGMA synchronous=FULL")
        archive._indexes.images.rebuild()
        yield made
