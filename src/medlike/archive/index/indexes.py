"""The indexes of an archive: images under the image bundle and a fit, pictures and texts under the text bundle."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from medlike.archive.index.bm25 import Words
from medlike.archive.index.field_words import FieldWords
from medlike.archive.index.index import Index, Layout
from medlike.archive.index.neighbours import NeighbourSample
from medlike.archive.index.sources import FittedImages, StoredTexts
from medlike.archive.storage import fits
from medlike.archive.storage.folder import BundleFacts, FitFacts, Folder, TextBundleFacts
from medlike.archive.storage.store import Store
from medlike.codes.fit import Fit

WORDS = "words"  # in place of a text bundle's digest, where there are texts and no text bundle


@dataclass(frozen=True)
class CodedImages:
    """The images by one kind of codes.

    Attributes:
        index: Their index.
        neighbours: How similar the images' nearest neighbours are.
        fit: The fit that the codes come from, None for the bundle's own.
    """

    index: Index
    neighbours: NeighbourSample
    fit: Fit | None


def fitted_layout(bundle: BundleFacts, fit: FitFacts) -> Layout:
    """Return the layout of the images under a fit."""
    return Layout(bundle.digest, fit.bits, fit.directions, bundle.local_bits, fit=fit.digest)


class Indexes:
    """The indexes under one image bundle, at most one fit in use and at most one text bundle.

    Each is opened when it is needed. Safe for many threads.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        bundle: BundleFacts,
        text: TextBundleFacts | None,
        fit: FitFacts | None = None,
    ) -> None:
        """folder: the archive's index/ folder."""
        self.folder, self.store, self.bundle, self.text, self.fit = folder, store, bundle, text, fit
        self._coded: dict[str | None, CodedImages] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, folder: Folder, store: Store) -> "Indexes":
        """Under the bundles and the fit that an archive's folder names."""
        return cls(folder.index, store, folder.bundle, folder.text, folder.fit)

    @cached_property
    def used(self) -> CodedImages:
        """The images by the codes in use: those of the fit where there is one."""
        return self.coded(None if self.fit is None else self.fit.digest)

    @cached_property
    def images(self) -> Index:
        """The index of the images by the codes in use."""
        return self.used.index

    def coded(self, fit: str | None) -> CodedImages:
        """Return the images by the codes of a fit (its digest), or by the bundle's own.

        Raises:
            ArchiveError: The fit is missing or damaged.
        """
        with self._lock:
            if fit not in self._coded:
                facts = self.bundle
                if fit is None:
                    layout = Layout(facts.digest, facts.bits, facts.content_dim, facts.local_bits)
                    index, loaded = Index(self.folder, self.store, layout), None
                else:
                    loaded = fits.get(self.store, fit).fit
                    layout = fitted_layout(facts, FitFacts(fit, loaded.bits, loaded.directions.shape[1]))
                    source = FittedImages(self.store, facts.digest, loaded)
                    index = Index(self.folder, self.store, layout, source)
                self._coded[fit] = CodedImages(index, NeighbourSample(index), loaded)
            return self._coded[fit]

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

    @cached_property
    def field_words(self) -> FieldWords:
        """The words in the fields of the images."""
        return FieldWords(self.store)

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

    def discard(self, folder: Path) -> None:
        """Forget the damaged index in a folder, so that it is derived anew when it is next needed."""
        for index in [*(coded.index for coded in list(self._coded.values())), *self._needed()]:
            if index.folder == folder:
                index.discard()

    def verify(self) -> list[str]:
        """Differences between them and the store, as sentences."""
        return [text for index in self._needed() for text in index.verify()]

    def _needed(self) -> Iterator[Index]:
        yield self.images
        if self.pictures is not None:
            yield self.pictures
        if self.has_texts():
            yield self.texts
