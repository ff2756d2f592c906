"""The indexes of an archive: images under the image bundle, pictures and texts under the text bundle."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from medlike.archive.index.bm25 import Words
from medlike.archive.index.index import Index, Layout
from medlike.archive.index.neighbours import NeighbourSample
from medlike.archive.index.sources import StoredTexts
from medlike.archive.storage.folder import BundleFacts, Folder, TextBundleFacts
from medlike.archive.storage.store import Store

WORDS = "words"  # in place of a text bundle's digest, where there are texts and no text bundle


class Indexes:
    """The indexes under one image bundle and at most one text bundle; each is opened when it is needed."""

    def __init__(self, folder: Path, store: Store, bundle: BundleFacts, text: TextBundleFacts | None) -> None:
        """folder: the archive's index/ folder."""
        self.folder, self.store, self.bundle, self.text = folder, store, bundle, text

    @classmethod
    def of(cls, folder: Folder, store: Store) -> "Indexes":
        """Under the bundles that an archive's folder names."""
        return cls(folder.index, store, folder.bundle, folder.text)

    @cached_property
    def images(self) -> Index:
        """The images, by their own codes."""
        facts = self.bundle
        return Index(self.folder, self.store, Layout(facts.digest, facts.bits, facts.content_dim, facts.local_bits))

    @cached_property
    def neighbours(self) -> NeighbourSample:
        """How similar the images' nearest neighbours are."""
        return NeighbourSample(self.images)

    @cached_property
    def pictures(self) -> Index | None:
        """The images by their cross-modal codes; None without a text bundle."""
        if self.text is None:
            return None
        layout = Layout(self.text.digest, self.text.bits, self.text.width, of="pictures")
        return Index(self.folder, self.store, layout)

    @cached_property
    def texts(self) -> Index:
        """The texts, by their words and, with a text bundle, by their cross-modal codes."""
        if self.text is None:
            return Index(self.folder, self.store, Layout(WORDS, 0, 0, of="texts"), StoredTexts(self.store, None))
        layout = Layout(self.text.digest, self.text.bits, self.text.width, of="texts")
        width = (self.text.bits // 8, 2 * self.text.width)
        return Index(self.folder, self.store, layout, StoredTexts(self.store, self.text.digest, width))

    @cached_property
    def words(self) -> Words:
        """The word index of the texts."""
        return Words(self.store)

    def has_texts(self) -> bool:
        """Whether the store holds a text, of a live image or not."""
        return self.store.first("SELECT 1 FROM texts LIMIT 1") is not None

    def refresh(self) -> None:
        """Bring all of them up to date with the store."""
        for index in self._needed():
            index.refresh()

    def rebuild(self) -> None:
        """Make all of them anew from the store alone."""
        for index in self._needed():
            index.rebuild()

    def verify(self) -> list[str]:
        """Differences between them and the store, as sentences."""
        return [text for index in self._needed() for text in index.verify()]

    def _needed(self) -> Iterator[Index]:
        yield self.images
        if self.pictures is not None:
            yield self.pictures
        if self.has_texts():
            yield self.texts
